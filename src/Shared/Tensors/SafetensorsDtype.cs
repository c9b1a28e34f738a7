using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>The element types of the safetensors format that this project reads, by their names in the header.</summary>
public static class SafetensorsDtype
{
    private static readonly Dictionary<string, (int Bytes, ScalarType Type)> Known = new(StringComparer.Ordinal)
    {
        ["F64"] = (8, ScalarType.Float64),
        ["F32"] = (4, ScalarType.Float32),
        ["F16"] = (2, ScalarType.Float16),
        ["BF16"] = (2, ScalarType.BFloat16),
        ["I64"] = (8, ScalarType.Int64),
        ["I32"] = (4, ScalarType.Int32),
        ["I16"] = (2, ScalarType.Int16),
        ["I8"] = (1, ScalarType.Int8),
        ["U8"] = (1, ScalarType.Byte),
        ["BOOL"] = (1, ScalarType.Bool),
    };

    public static IEnumerable<string> Names => Known.Keys;

    public static bool TryGet(string name, out int bytes, out ScalarType type)
    {
        bool known = Known.TryGetValue(name, out var entry);
        (bytes, type) = entry;
        return known;
    }

    /// <summary>The header's name of <paramref name="type"/>.</summary>
    public static string NameOf(ScalarType type)
    {
        foreach (var (name, entry) in Known)
        {
            if (entry.Type == type)
            {
                return name;
            }
        }
        throw new ArgumentOutOfRangeException(nameof(type), type, "safetensors has no such element type");
    }
}
