using Apache.Arrow;
using Apache.Arrow.Types;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Activations;

/// <summary>The one Arrow schema shards have.</summary>
internal static class ShardSchema
{
    public const string Token = "token";
    public const string Document = "document";
    public const string Position = "position";
    public const string Activation = "activation";

    public static Schema Of(ActivationDtype dtype, ShardMetadata metadata) =>
        new(
            [
                new Field(Token, Int32Type.Default, nullable: false),
                new Field(Document, Int32Type.Default, nullable: false),
                new Field(Position, Int32Type.Default, nullable: false),
                new Field(Activation, ActivationType(dtype, metadata.DModel), nullable: false),
            ],
            metadata.ToPairs()
        );

    public static FixedSizeListType ActivationType(ActivationDtype dtype, int width) =>
        new(
            new Field("item", dtype == ActivationDtype.Float16 ? HalfFloatType.Default : FloatType.Default, false),
            width
        );

    public static int ItemBytes(ActivationDtype dtype) => dtype == ActivationDtype.Float16 ? 2 : 4;
}
