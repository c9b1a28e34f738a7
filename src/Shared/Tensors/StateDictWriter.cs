using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;
using Pipeline.Shared.Tensors.Pickle;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>Writes a state dict that torch.load(path, weights_only=True) opens: the same values give the same bytes.</summary>
public static class StateDictWriter
{
    private static readonly DateTimeOffset Epoch = new(1980, 1, 1, 0, 0, 0, TimeSpan.Zero); // zip's earliest

    /// <param name="stream">Where the file goes, from its first byte.</param>
    /// <param name="name">The archive's root folder; torch.save uses the file's name without its extension.</param>
    /// <param name="values">In this order; each a Tensor, string, long, bool, or a nested list of such pairs.</param>
    public static void Write(Stream stream, string name, IReadOnlyList<(string Key, object Value)> values)
    {
        using var archive = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true);
        var storages = new List<Tensor>();
        using var pickle = new MemoryStream();
        pickle.Write([0x80, 2]);
        WriteDictionary(pickle, values, storages);
        pickle.WriteByte((byte)'.');
        Entry("data.pkl", target => target.Write(pickle.ToArray()));
        Entry("byteorder", target => target.Write("little"u8));
        for (int i = 0; i < storages.Count; i++)
        {
            Entry($"data/{i}", target => SafetensorsWriter.WriteTensor(target, storages[i], storages[i].dtype));
        }
        Entry("version", target => target.Write("3\n"u8));

        void Entry(string file, Action<Stream> write)
        {
            var entry = archive.CreateEntry($"{name}/{file}", CompressionLevel.NoCompression);
            entry.LastWriteTime = Epoch;
            using var target = entry.Open();
            write(target);
        }
    }

    private static void WriteDictionary(
        MemoryStream pickle,
        IReadOnlyList<(string Key, object Value)> values,
        List<Tensor> storages
    )
    {
        Global(pickle, "collections", "OrderedDict");
        pickle.Write(")R("u8);
        foreach (var (key, value) in values)
        {
            Text(pickle, key);
            WriteValue(pickle, value, storages);
        }
        pickle.WriteByte((byte)'u');
    }

    private static void WriteValue(MemoryStream pickle, object value, List<Tensor> storages)
    {
        switch (value)
        {
            case Tensor tensor:
                WriteTensor(pickle, tensor, storages);
                break;
            case string text:
                Text(pickle, text);
                break;
            case bool flag:
                pickle.WriteByte(flag ? (byte)0x88 : (byte)0x89);
                break;
            case long number:
                Number(pickle, number);
                break;
            case IReadOnlyList<(string, object)> nested:
                WriteDictionary(pickle, nested, storages);
                break;
            default:
                throw new ArgumentException($"a state dict cannot hold a {value.GetType().Name}", nameof(value));
        }
    }

    /// <summary>_rebuild_tensor_v2(storage, 0, size, stride, False, OrderedDict())</summary>
    private static void WriteTensor(MemoryStream pickle, Tensor tensor, List<Tensor> storages)
    {
        Global(pickle, "torch._utils", "_rebuild_tensor_v2");
        pickle.Write("(("u8);
        Text(pickle, "storage");
        Global(pickle, "torch", PickledStorage.NameOf(tensor.dtype));
        Text(pickle, storages.Count.ToString(System.Globalization.CultureInfo.InvariantCulture));
        Text(pickle, "cpu");
        Number(pickle, tensor.numel());
        pickle.Write("tQ"u8);
        Number(pickle, 0);
        Tuple(pickle, tensor.shape);
        Tuple(pickle, ContiguousStrides(tensor.shape));
        pickle.WriteByte(0x89);
        Global(pickle, "collections", "OrderedDict");
        pickle.Write(")RtR"u8);
        storages.Add(tensor);
    }

    private static long[] ContiguousStrides(long[] shape)
    {
        long[] strides = new long[shape.Length];
        long stride = 1;
        for (int axis = shape.Length - 1; axis >= 0; axis--)
        {
            strides[axis] = stride;
            stride *= Math.Max(1, shape[axis]);
        }
        return strides;
    }

    private static void Tuple(MemoryStream pickle, long[] numbers)
    {
        pickle.WriteByte((byte)'(');
        foreach (long number in numbers)
        {
            Number(pickle, number);
        }
        pickle.WriteByte((byte)'t');
    }

    private static void Number(MemoryStream pickle, long number)
    {
        Span<byte> bytes = stackalloc byte[10];
        if (number is >= int.MinValue and <= int.MaxValue)
        {
            bytes[0] = (byte)'J';
            BinaryPrimitives.WriteInt32LittleEndian(bytes[1..], (int)number);
            pickle.Write(bytes[..5]);
            return;
        }
        (bytes[0], bytes[1]) = (0x8A, 8);
        BinaryPrimitives.WriteInt64LittleEndian(bytes[2..], number);
        pickle.Write(bytes);
    }

    private static void Text(MemoryStream pickle, string text)
    {
        byte[] utf8 = Encoding.UTF8.GetBytes(text);
        Span<byte> head = stackalloc byte[5];
        head[0] = (byte)'X';
        BinaryPrimitives.WriteInt32LittleEndian(head[1..], utf8.Length);
        pickle.Write(head);
        pickle.Write(utf8);
    }

    private static void Global(MemoryStream pickle, string module, string name) =>
        pickle.Write(Encoding.ASCII.GetBytes($"c{module}\n{name}\n"));
}
