using System.Buffers;
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>One tensor of a safetensors file: its element type by header name, shape, and byte range in the data part.</summary>
public sealed record SafetensorsEntry(string Name, string Dtype, long[] Shape, long Begin, long End);

/// <summary>
/// A safetensors file opened for reading: an 8-byte little-endian header length, a JSON header, then the tensors' bytes
/// without holes or overlaps up to the file's end. Everything is checked before any tensor is read; a file that breaks a
/// rule is refused with <see cref="CorruptArtifactException"/>.
/// </summary>
public sealed class SafetensorsFile : ITensorFile
{
    private const long MaximumHeaderBytes = 100_000_000;
    private const int MostAxes = 64; // libtorch's limit

    /// <summary>Values a thread reads at a time: few enough that what it widens is still in its core's cache.</summary>
    private const int PieceValues = 1 << 18;

    private readonly SafeFileHandle file;
    private readonly Dictionary<string, SafetensorsEntry> entries;
    private readonly long dataBegin;

    private SafetensorsFile(
        string path,
        SafeFileHandle file,
        long dataBegin,
        Dictionary<string, SafetensorsEntry> entries,
        IReadOnlyDictionary<string, string> metadata
    )
    {
        Path = path;
        this.file = file;
        this.dataBegin = dataBegin;
        this.entries = entries;
        Metadata = metadata;
        Shapes = entries.ToDictionary(pair => pair.Key, pair => pair.Value.Shape, StringComparer.Ordinal);
    }

    public string Path { get; }

    /// <summary>The header's <c>__metadata__</c>, empty where there is none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    public IReadOnlyDictionary<string, SafetensorsEntry> Entries => entries;

    public IReadOnlyDictionary<string, long[]> Shapes { get; }

    /// <exception cref="ConfigurationException">The file does not exist.</exception>
    /// <exception cref="CorruptArtifactException">The file breaks a rule of the format.</exception>
    public static SafetensorsFile Open(string path)
    {
        if (!File.Exists(path))
        {
            throw new ConfigurationException(
                new Fault(
                    path,
                    "no file",
                    "a safetensors file",
                    "Check the path, or download the file again"
                ).ToString()
            );
        }
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        long length = stream.Length; // FileInfo would measure a link, which the hub's cache is full of
        byte[] header = ReadHeader(path, stream, length);
        long dataBegin = 8 + header.LongLength;
        var (entries, metadata) = ParseHeader(path, header, length - dataBegin);
        return new SafetensorsFile(path, File.OpenHandle(path), dataBegin, entries, metadata);
    }

    /// <summary>The tensor <paramref name="name"/> in its own element type, on the CPU.</summary>
    public Tensor Load(string name)
    {
        var entry = Entry(name);
        SafetensorsDtype.TryGet(entry.Dtype, out _, out var type);
        var tensor = empty(entry.Shape, type);
        // Tensor.bytes is a span and ends at 2 GiB; larger tensors only occur in floating point (LoadFloat32).
        var bytes = tensor.bytes;
        Read(entry, 0, bytes);
        tensor.bytes = bytes;
        return tensor;
    }

    /// <summary>The floating-point tensor <paramref name="name"/> as float32 on the CPU; float16 and bfloat16 widen exactly.</summary>
    public Tensor LoadFloat32(string name)
    {
        var tensor = empty(FloatingPoint(name).Shape, ScalarType.Float32);
        LoadFloat32Into(name, tensor);
        return tensor;
    }

    /// <remarks>
    /// Most of the time goes into the first touch of <paramref name="target"/>'s memory, which threads share; the file is read
    /// and not mapped (docs/decisions/0011).
    /// </remarks>
    public unsafe void LoadFloat32Into(string name, Tensor target)
    {
        var entry = FloatingPoint(name);
        long count = target.numel();
        if (count != entry.Shape.Aggregate(1L, (product, size) => product * size))
        {
            throw new ArgumentException(
                $"{count} values for {name} [{string.Join(", ", entry.Shape)}]",
                nameof(target)
            );
        }
        if (count == 0)
        {
            return;
        }
        using var scope = NewDisposeScope();
        float* values = CpuKernels.Floats(target);
        Pieces.Run(
            checked((int)((count + PieceValues - 1) / PieceValues)),
            get_num_threads(),
            piece =>
            {
                long from = (long)piece * PieceValues;
                ReadPiece(entry, count, from, new Span<float>(values + from, (int)Math.Min(PieceValues, count - from)));
            }
        );
    }

    public void Dispose() => file.Dispose();

    /// <summary>Fills <paramref name="target"/> with a tensor's values from <paramref name="from"/> on, of <paramref name="count"/> in all.</summary>
    private void ReadPiece(SafetensorsEntry entry, long count, long from, Span<float> target)
    {
        int itemBytes = (int)((entry.End - entry.Begin) / count);
        if (entry.Dtype == "F32")
        {
            Read(entry, from * itemBytes, MemoryMarshal.AsBytes(target));
            return;
        }
        byte[] buffer = ArrayPool<byte>.Shared.Rent(target.Length * itemBytes);
        try
        {
            var stored = buffer.AsSpan(0, target.Length * itemBytes);
            Read(entry, from * itemBytes, stored);
            Widen(entry.Dtype, stored, target);
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>Fills <paramref name="target"/> from a tensor's bytes, <paramref name="at"/> bytes in.</summary>
    private void Read(SafetensorsEntry entry, long at, Span<byte> target)
    {
        long position = dataBegin + entry.Begin + at;
        while (!target.IsEmpty)
        {
            int read = RandomAccess.Read(file, target, position);
            if (read == 0)
            {
                throw Corrupt(
                    Path,
                    $"tensor {entry.Name}",
                    $"the end of the file at byte {position}",
                    $"{entry.End - entry.Begin} bytes",
                    "The file was cut since it was opened: download or write it again"
                );
            }
            position += read;
            target = target[read..];
        }
    }

    private static void Widen(string dtype, ReadOnlySpan<byte> stored, Span<float> target)
    {
        switch (dtype)
        {
            case "F16":
                ActivationCodec.For(ActivationDtype.Float16).Decode(stored, [], target);
                break;
            case "BF16":
                ActivationCodec.For(ActivationDtype.BFloat16).Decode(stored, [], target);
                break;
            default:
                var doubles = MemoryMarshal.Cast<byte, double>(stored);
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = (float)doubles[i];
                }
                break;
        }
    }

    private SafetensorsEntry FloatingPoint(string name)
    {
        var entry = Entry(name);
        return entry.Dtype is "F32" or "F16" or "BF16" or "F64"
            ? entry
            : throw Corrupt(
                Path,
                $"tensor {name}",
                entry.Dtype,
                "a floating-point type (F32, F16, BF16, F64)",
                "Use a file with floating-point weights"
            );
    }

    private SafetensorsEntry Entry(string name) =>
        entries.TryGetValue(name, out var entry)
            ? entry
            : throw Corrupt(
                Path,
                $"tensor {name}",
                "no such tensor",
                "one of " + string.Join(", ", entries.Keys.Order(StringComparer.Ordinal).Take(8)),
                "Use a complete checkpoint of this model family"
            );

    private static byte[] ReadHeader(string path, FileStream stream, long length)
    {
        const string Remedy = "The file is truncated or not safetensors: download or write it again";
        Span<byte> prefix = stackalloc byte[8];
        if (length < 10)
        {
            throw Corrupt(path, "file", $"{length} bytes", "at least 10 bytes", Remedy);
        }
        stream.ReadExactly(prefix);
        ulong headerLength = BinaryPrimitives.ReadUInt64LittleEndian(prefix);
        if (headerLength > MaximumHeaderBytes || headerLength > (ulong)(length - 8))
        {
            throw Corrupt(
                path,
                "header length",
                $"{headerLength} bytes",
                $"at most {Math.Min(MaximumHeaderBytes, length - 8)} bytes",
                Remedy
            );
        }
        byte[] header = new byte[headerLength];
        stream.ReadExactly(header);
        return header;
    }

    private static (Dictionary<string, SafetensorsEntry>, Dictionary<string, string>) ParseHeader(
        string path,
        byte[] header,
        long dataLength
    )
    {
        const string Remedy = "The header is damaged: download or write the file again";
        var entries = new Dictionary<string, SafetensorsEntry>(StringComparer.Ordinal);
        var metadata = new Dictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using var document = StrictJson.Parse(
                header,
                new JsonDocumentOptions { MaxDepth = 8, AllowDuplicateProperties = false }
            );
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw Corrupt(path, "header", document.RootElement.ValueKind.ToString(), "a JSON object", Remedy);
            }
            foreach (var property in document.RootElement.EnumerateObject())
            {
                if (property.NameEquals("__metadata__"))
                {
                    foreach (var pair in property.Value.EnumerateObject())
                    {
                        metadata[pair.Name] = pair.Value.GetString() ?? "";
                    }
                    continue;
                }
                entries.Add(property.Name, ParseEntry(path, property, dataLength));
            }
        }
        catch (Exception e)
            when (e is JsonException or InvalidOperationException or FormatException or OverflowException)
        {
            throw new CorruptArtifactException(
                new Fault($"{path}: header", e.Message, "the JSON header of a safetensors file", Remedy).ToString(),
                e
            );
        }
        RequireExactCover(path, entries.Values, dataLength);
        return (entries, metadata);
    }

    private static SafetensorsEntry ParseEntry(string path, JsonProperty property, long dataLength)
    {
        const string Remedy = "The header is damaged: download or write the file again";
        string field = $"tensor {property.Name}";
        string dtype = property.Value.Required("dtype").GetString() ?? "";
        if (!SafetensorsDtype.TryGet(dtype, out int itemBytes, out _))
        {
            throw Corrupt(
                path,
                field,
                $"dtype '{dtype}'",
                "one of " + string.Join(", ", SafetensorsDtype.Names),
                "Convert the file to one of these types"
            );
        }
        long[] shape = [.. property.Value.Required("shape").EnumerateArray().Select(e => e.GetInt64())];
        long[] offsets = [.. property.Value.Required("data_offsets").EnumerateArray().Select(e => e.GetInt64())];
        if (offsets.Length != 2 || offsets[0] < 0 || offsets[1] < offsets[0] || offsets[1] > dataLength)
        {
            throw Corrupt(
                path,
                field,
                $"data_offsets [{string.Join(", ", offsets)}]",
                $"a range within the file's {dataLength} bytes of data",
                "The file is truncated or damaged: download or write it again"
            );
        }
        if (shape.Length > MostAxes)
        {
            throw Corrupt(path, field, $"{shape.Length} axes", $"at most {MostAxes}", Remedy);
        }
        long bytes = itemBytes;
        foreach (long size in shape)
        {
            if (size < 0)
            {
                throw Corrupt(path, field, $"shape [{string.Join(", ", shape)}]", "sizes of 0 or more", Remedy);
            }
            bytes = checked(bytes * size);
        }
        if (bytes != offsets[1] - offsets[0])
        {
            throw Corrupt(
                path,
                field,
                $"{offsets[1] - offsets[0]} bytes",
                $"{bytes} bytes for {dtype} [{string.Join(", ", shape)}]",
                Remedy
            );
        }
        return new SafetensorsEntry(property.Name, dtype, shape, offsets[0], offsets[1]);
    }

    private static void RequireExactCover(string path, IEnumerable<SafetensorsEntry> entries, long dataLength)
    {
        long at = 0;
        foreach (var entry in entries.OrderBy(e => e.Begin).ThenBy(e => e.End))
        {
            if (entry.Begin != at)
            {
                throw Corrupt(
                    path,
                    $"tensor {entry.Name}",
                    $"first byte {entry.Begin}",
                    $"first byte {at} (no holes, no overlaps)",
                    "The header is damaged: download or write the file again"
                );
            }
            at = entry.End;
        }
        if (at != dataLength)
        {
            throw Corrupt(
                path,
                "file",
                $"{dataLength} bytes of data",
                $"{at} bytes, as the header says",
                "The file is truncated or has trailing bytes: download or write it again"
            );
        }
    }

    private static CorruptArtifactException Corrupt(
        string path,
        string field,
        string found,
        string expected,
        string remedy
    ) => new(new Fault($"{path}: {field}", found, expected, remedy).ToString());
}

file static class JsonElementExtensions
{
    public static JsonElement Required(this JsonElement element, string name) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(name, out var value)
            ? value
            : throw new FormatException($"a tensor has no '{name}'");
}
