using System.Buffers.Binary;
using System.Text.Json;
using System.Text.Json.Nodes;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>Writes safetensors: the same tensors in the same order give the same bytes.</summary>
public static class SafetensorsWriter
{
    /// <param name="stream">Where the file goes, from its first byte.</param>
    /// <param name="tensors">Names and CPU tensors, written in this order.</param>
    /// <param name="metadata">The header's <c>__metadata__</c>, or null.</param>
    /// <param name="floatType">The type floating-point tensors are stored in (Float32 or Float16); null keeps each one's own.</param>
    public static void Write(
        Stream stream,
        IReadOnlyList<(string Name, Tensor Value)> tensors,
        IReadOnlyDictionary<string, string>? metadata = null,
        ScalarType? floatType = null
    )
    {
        var header = new JsonObject();
        if (metadata is not null)
        {
            header["__metadata__"] = new JsonObject(
                metadata.Select(pair => KeyValuePair.Create(pair.Key, (JsonNode?)pair.Value))
            );
        }
        long at = 0;
        foreach (var (name, value) in tensors)
        {
            var type = StoredType(value, floatType);
            string dtype = SafetensorsDtype.NameOf(type);
            SafetensorsDtype.TryGet(dtype, out int itemBytes, out _);
            long bytes = value.numel() * itemBytes;
            header[name] = new JsonObject
            {
                ["dtype"] = dtype,
                ["shape"] = new JsonArray([.. value.shape.Select(size => (JsonNode)size)]),
                ["data_offsets"] = new JsonArray(at, at + bytes),
            };
            at += bytes;
        }
        byte[] json = JsonSerializer.SerializeToUtf8Bytes(header);
        int padding = (8 - (json.Length % 8)) % 8; // tensors start at a multiple of 8 bytes, as the format advises
        Span<byte> prefix = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(prefix, json.Length + padding);
        stream.Write(prefix);
        stream.Write(json);
        stream.Write("        "u8[..padding]);
        foreach (var (_, value) in tensors)
        {
            WriteTensor(stream, value, StoredType(value, floatType));
        }
    }

    private static ScalarType StoredType(Tensor value, ScalarType? floatType) =>
        floatType is { } type && value.is_floating_point() ? type : value.dtype;

    /// <summary>The tensor's elements, row-major and little-endian, as <paramref name="type"/>.</summary>
    internal static void WriteTensor(Stream stream, Tensor value, ScalarType type)
    {
        if (value.numel() == 0)
        {
            return;
        }
        using var scope = NewDisposeScope();
        var flat = value.detach().cpu().contiguous().reshape(-1);
        const long Chunk = 1 << 22;
        for (long from = 0; from < flat.numel(); from += Chunk)
        {
            using var chunkScope = NewDisposeScope();
            var part = flat.narrow(0, from, Math.Min(Chunk, flat.numel() - from)).to(type).clone();
            stream.Write(part.bytes);
        }
    }
}
