using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pipeline.Evaluate.Features;

/// <summary>
/// A latent as block files hold it, field by field in their order; <see cref="FeatureDefinitions"/> says what each is.
/// </summary>
internal sealed record DescribedLatent(
    int Index,
    double Density,
    float MaxActivation,
    double MeanActivation,
    bool Dead,
    bool Dense,
    DescribedHistogram Histogram,
    IReadOnlyList<LogitEffect> TopLogits,
    IReadOnlyList<LogitEffect> BottomLogits,
    IReadOnlyList<Neighbour> NearestCosine,
    IReadOnlyList<Neighbour> NearestCoactivation,
    DescribedEffect? DirectEffect,
    [property: JsonPropertyName("n2g")] DescribedPatterns? N2G,
    IReadOnlyList<DescribedExample> Top,
    IReadOnlyList<DescribedBand> Quantiles
)
{
    /// <summary>Names as in <c>max_activation</c>.</summary>
    public static JsonSerializerOptions Json { get; } =
        new(RelaxedJson.Compact) { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}

internal sealed record DescribedHistogram(IReadOnlyList<float> Edges, IReadOnlyList<int> Counts);

internal sealed record LogitEffect(string Token, float Value);

/// <summary>Null is undefined.</summary>
internal sealed record DescribedEffect(
    float? TopTokenDrop,
    float? PredictedTopTokenDrop,
    float? RandomTokenDrop,
    float? Correlation
);

internal sealed record DescribedPatterns(
    int Examples,
    long Predicted,
    long Fired,
    long Both,
    double? Precision,
    double? Recall,
    double? F1,
    IReadOnlyList<DescribedPattern> Patterns
);

/// <summary>A token that is null is any.</summary>
internal sealed record DescribedPattern(IReadOnlyList<string?> Tokens, bool CanPadStart, float Activation);

internal sealed record DescribedExample(
    IReadOnlyList<string> Tokens,
    float[] Activations,
    int Peak,
    int Document,
    int Position
);

internal sealed record DescribedBand(float From, float To, int Count, IReadOnlyList<DescribedExample> Examples);
