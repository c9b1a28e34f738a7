using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors.Pickle;

/// <summary>The tensor types of torch's pickles by the names of their storage classes.</summary>
public static class PickledStorage
{
    private static readonly Dictionary<string, ScalarType> Types = new(StringComparer.Ordinal)
    {
        ["DoubleStorage"] = ScalarType.Float64,
        ["FloatStorage"] = ScalarType.Float32,
        ["HalfStorage"] = ScalarType.Float16,
        ["BFloat16Storage"] = ScalarType.BFloat16,
        ["LongStorage"] = ScalarType.Int64,
        ["IntStorage"] = ScalarType.Int32,
        ["ShortStorage"] = ScalarType.Int16,
        ["CharStorage"] = ScalarType.Int8,
        ["ByteStorage"] = ScalarType.Byte,
        ["BoolStorage"] = ScalarType.Bool,
    };

    public static IEnumerable<string> Names => Types.Keys;

    public static ScalarType TypeOf(string name) => Types[name];

    /// <exception cref="ArgumentOutOfRangeException">torch has no typed storage of this element type.</exception>
    public static string NameOf(ScalarType type) =>
        Types.FirstOrDefault(pair => pair.Value == type).Key
        ?? throw new ArgumentOutOfRangeException(nameof(type), type, "no storage class for this element type");
}

/// <summary>A storage a pickle refers to: a file of the archive.</summary>
/// <param name="Key">Its file's name under <c>data/</c>.</param>
/// <param name="Type">Element type.</param>
/// <param name="Count">Elements.</param>
public sealed record PickledStorageReference(string Key, ScalarType Type, long Count);

/// <summary>A strided view of a storage.</summary>
/// <param name="Storage">Where its elements lie.</param>
/// <param name="Offset">First element.</param>
/// <param name="Shape">Sizes.</param>
/// <param name="Strides">In elements.</param>
public sealed record PickledTensor(PickledStorageReference Storage, long Offset, long[] Shape, long[] Strides)
{
    public long Count => Shape.Aggregate(1L, (product, size) => product * size);

    /// <summary>Whether the tensor is its storage, element for element.</summary>
    public bool IsWholeStorage
    {
        get
        {
            long stride = 1;
            for (int axis = Shape.Length - 1; axis >= 0; axis--)
            {
                if (Shape[axis] != 1 && Strides[axis] != stride)
                {
                    return false;
                }
                stride *= Shape[axis];
            }
            return Offset == 0 && Count == Storage.Count;
        }
    }
}
