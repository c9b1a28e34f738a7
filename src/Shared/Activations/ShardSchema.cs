using Apache.Arrow;
using Apache.Arrow.Types;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Activations;

/// <summary>
/// The Arrow schema of shards: <c>token</c>, <c>document</c>, <c>position</c> int32, <c>activation</c> a list of D items,
/// and for int8 <c>scale</c> float32. bfloat16, which Arrow lacks, is uint16 with the field metadata
/// <c>encoding = bfloat16</c>.
/// </summary>
internal static class ShardSchema
{
    public const string Token = "token";
    public const string Document = "document";
    public const string Position = "position";
    public const string Activation = "activation";
    public const string Scale = "scale";

    private const string Encoding = "encoding";

    public static Schema Of(ActivationDtype dtype, ShardMetadata metadata)
    {
        var codec = ActivationCodec.For(dtype);
        var type = new FixedSizeListType(new Field("item", codec.ItemType, nullable: false), metadata.DModel);
        var encoding =
            dtype == ActivationDtype.BFloat16
                ? new Dictionary<string, string> { [Encoding] = Spelling.Of(dtype) }
                : null;
        List<Field> fields =
        [
            new(Token, Int32Type.Default, nullable: false),
            new(Document, Int32Type.Default, nullable: false),
            new(Position, Int32Type.Default, nullable: false),
            new(Activation, type, nullable: false, encoding),
        ];
        if (codec.HasScale)
        {
            fields.Add(new Field(Scale, FloatType.Default, nullable: false));
        }
        return new Schema(fields, metadata.ToPairs());
    }

    /// <summary>The stored type of a schema's activations of width <paramref name="width"/>, or null for another schema.</summary>
    public static ActivationDtype? DtypeOf(Schema schema, int width)
    {
        string[] names = [.. schema.FieldsList.Select(field => field.Name)];
        bool columns =
            names.AsSpan(0, Math.Min(4, names.Length)).SequenceEqual([Token, Document, Position, Activation])
            && schema.FieldsList.Take(3).All(field => field.DataType is Int32Type);
        if (
            !columns
            || schema.FieldsList[3].DataType is not FixedSizeListType list
            || list.ListSize != width
            || width < 1
        )
        {
            return null;
        }
        string encoding = schema.FieldsList[3].Metadata?.GetValueOrDefault(Encoding) ?? "";
        bool scaled = names.Length == 5 && names[4] == Scale && schema.FieldsList[4].DataType is FloatType;
        return (list.ValueDataType, names.Length, encoding) switch
        {
            (FloatType, 4, "") => ActivationDtype.Float32,
            (HalfFloatType, 4, "") => ActivationDtype.Float16,
            (UInt16Type, 4, "bfloat16") => ActivationDtype.BFloat16,
            (Int8Type, 5, "") when scaled => ActivationDtype.Int8,
            _ => null,
        };
    }

    public static string Describe(Schema schema) =>
        string.Join(
            ", ",
            schema.FieldsList.Select(field =>
                field.DataType is FixedSizeListType list
                    ? $"{field.Name} {list.ValueDataType.Name}[{list.ListSize}]"
                    : $"{field.Name} {field.DataType.Name}"
            )
        );
}
