using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

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

    private readonly MemoryMappedFile map;
    private readonly MemoryMappedViewAccessor view;
    private readonly Dictionary<string, SafetensorsEntry> entries;
    private readonly long dataBegin;

    private SafetensorsFile(
        string path,
        MemoryMappedFile map,
        long dataBegin,
        Dictionary<string, SafetensorsEntry> entries,
        IReadOnlyDictionary<string, string> metadata
    )
    {
        Path = path;
        this.map = map;
        view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
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
        var map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
        return new SafetensorsFile(path, map, dataBegin, entries, metadata);
    }

    /// <summary>The tensor <paramref name="name"/> in its own element type, on the CPU.</summary>
    public unsafe Tensor Load(string name)
    {
        var entry = Entry(name);
        SafetensorsDtype.TryGet(entry.Dtype, out int itemBytes, out var type);
        var tensor = empty(entry.Shape, type);
        WithBytes(
            entry,
            source =>
            {
                // Tensor.bytes is a span and ends at 2 GiB; larger tensors only occur in floating point (LoadFloat32).
                var bytes = tensor.bytes;
                source.CopyTo(bytes);
                tensor.bytes = bytes;
            }
        );
        return tensor;
    }

    /// <summary>The floating-point tensor <paramref name="name"/> as float32 on the CPU; float16 and bfloat16 widen exactly.</summary>
    public unsafe Tensor LoadFloat32(string name)
    {
        var entry = Entry(name);
        if (entry.Dtype is not ("F32" or "F16" or "BF16" or "F64"))
        {
            throw Corrupt(
                Path,
                $"tensor {name}",
                entry.Dtype,
                "a floating-point type (F32, F16, BF16, F64)",
                "Use a file with floating-point weights"
            );
        }
        var tensor = empty(entry.Shape, ScalarType.Float32);
        long count = tensor.numel();
        if (count == 0)
        {
            return tensor;
        }
        float* target = (float*)tensor.storage<float>().data_ptr();
        byte* mapped = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref mapped);
        try
        {
            byte* source = mapped + view.PointerOffset + dataBegin + entry.Begin;
            const int Chunk = 1 << 20;
            for (long at = 0; at < count; at += Chunk)
            {
                int n = (int)Math.Min(Chunk, count - at);
                Widen(entry.Dtype, source, at, new Span<float>(target + at, n));
            }
        }
        finally
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
        return tensor;
    }

    public void Dispose()
    {
        view.Dispose();
        map.Dispose();
    }

    private static unsafe void Widen(string dtype, byte* source, long at, Span<float> target)
    {
        switch (dtype)
        {
            case "F32":
                new ReadOnlySpan<byte>(source + (at * 4), target.Length * 4).CopyTo(MemoryMarshal.AsBytes(target));
                break;
            case "F16":
                TensorPrimitives.ConvertToSingle(
                    MemoryMarshal.Cast<byte, Half>(new ReadOnlySpan<byte>(source + (at * 2), target.Length * 2)),
                    target
                );
                break;
            case "BF16":
                var bits = MemoryMarshal.Cast<byte, ushort>(
                    new ReadOnlySpan<byte>(source + (at * 2), target.Length * 2)
                );
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = BitConverter.UInt32BitsToSingle((uint)bits[i] << 16);
                }
                break;
            default:
                var doubles = MemoryMarshal.Cast<byte, double>(
                    new ReadOnlySpan<byte>(source + (at * 8), target.Length * 8)
                );
                for (int i = 0; i < target.Length; i++)
                {
                    target[i] = (float)doubles[i];
                }
                break;
        }
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

    private delegate void SpanAction(ReadOnlySpan<byte> bytes);

    private unsafe void WithBytes(SafetensorsEntry entry, SpanAction action)
    {
        byte* mapped = null;
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref mapped);
        try
        {
            action(
                new ReadOnlySpan<byte>(
                    mapped + view.PointerOffset + dataBegin + entry.Begin,
                    checked((int)(entry.End - entry.Begin))
                )
            );
        }
        finally
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
        }
    }

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
