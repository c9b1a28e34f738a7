namespace Pipeline.Evaluate.Report;

/// <summary>
/// What metrics.json says of an SAE beyond its single numbers; each part null or empty where the evaluation left it out, as
/// those of earlier versions did.
/// </summary>
public sealed record MetricDetails
{
    public Interval? LossRecovered { get; init; }
    public Interval? Fvu { get; init; }

    /// <summary>Share of resamples that an interval holds, 0 to 1.</summary>
    public double? Confidence { get; init; }

    /// <summary>PCA with as many directions as latents fire.</summary>
    public BaselineResult? Pca { get; init; }

    /// <summary>A dictionary of random directions of which as many are kept.</summary>
    public BaselineResult? Random { get; init; }

    /// <summary>This SAE spliced in together with its namesakes at other hooks.</summary>
    public AllHooksResult? AllHooks { get; init; }

    public DirectEffectResult? DirectEffect { get; init; }

    public IReadOnlyList<TokenGroup> ByPosition { get; init; } = [];
    public IReadOnlyList<TokenGroup> ByClass { get; init; } = [];

    internal static MetricDetails Read(JsonNodeReader metrics)
    {
        JsonNodeReader? intervals = metrics.Optional("intervals");
        JsonNodeReader? baselines = metrics.Optional("baselines");
        return new MetricDetails
        {
            LossRecovered = ReadInterval(intervals, "loss_recovered"),
            Fvu = ReadInterval(intervals, "fvu"),
            Confidence = intervals?.OptionalDouble("confidence"),
            Pca = ReadBaseline(baselines?.Optional("pca"), "directions"),
            Random = ReadBaseline(baselines?.Optional("random"), "k"),
            AllHooks = metrics.Optional("all_hooks") is { } all
                ? new AllHooksResult(
                    all.RequiredOrUndefined("loss_recovered"),
                    ReadInterval(all.Optional("intervals"), "loss_recovered")
                )
                : null,
            DirectEffect = metrics.Optional("direct_effect") is { } effect
                ? new DirectEffectResult(
                    effect.Required("latents").AsInt32(),
                    effect.RequiredOrUndefined("top_token_drop"),
                    effect.RequiredOrUndefined("predicted_top_token_drop"),
                    effect.RequiredOrUndefined("random_token_drop"),
                    effect.RequiredOrUndefined("correlation")
                )
                : null,
            ByPosition =
            [
                .. Groups(metrics, "by_position")
                    .Select(g => ReadGroup(g, Band(g.Required("from").AsInt64(), g.Required("to").AsInt64()))),
            ],
            ByClass = [.. Groups(metrics, "by_class").Select(g => ReadGroup(g, g.Required("class").AsString()))],
        };
    }

    private static IReadOnlyList<JsonNodeReader> Groups(JsonNodeReader metrics, string key) =>
        metrics.Optional(key)?.AsArray() ?? [];

    private static Interval? ReadInterval(JsonNodeReader? intervals, string key)
    {
        if (intervals?.Optional(key) is not { } interval)
        {
            return null;
        }
        return interval.AsArray() is [var low, var high]
            ? new Interval(low.AsDouble(), high.AsDouble())
            : throw interval.Corrupt($"{interval.AsArray().Count} numbers", "two, the lower and the upper");
    }

    private static BaselineResult? ReadBaseline(JsonNodeReader? baseline, string size) =>
        baseline is { } found
            ? new BaselineResult(
                found.Required(size).AsInt32(),
                found.RequiredOrUndefined("fvu"),
                found.RequiredOrUndefined("loss_recovered"),
                ReadInterval(found.Optional("intervals"), "loss_recovered")
            )
            : null;

    private static TokenGroup ReadGroup(JsonNodeReader group, string name) =>
        new(
            name,
            group.Required("tokens").AsInt64(),
            group.RequiredOrUndefined("l0"),
            group.RequiredOrUndefined("fvu"),
            group.RequiredOrUndefined("ce_clean"),
            group.RequiredOrUndefined("ce_spliced"),
            group.RequiredOrUndefined("loss_recovered")
        );

    private static string Band(long from, long to) =>
        from == to ? Numbers.Count(from) : $"{Numbers.Count(from)} – {Numbers.Count(to)}";
}

/// <summary>The middle share of a figure's values over resamples of the documents.</summary>
public sealed record Interval(double Low, double High);

/// <summary>A reconstruction that took no training.</summary>
/// <param name="Size">Directions, or active latents.</param>
/// <param name="Fvu">As the SAE's.</param>
/// <param name="LossRecovered">As the SAE's.</param>
/// <param name="LossRecoveredInterval">As the SAE's.</param>
public sealed record BaselineResult(int Size, double? Fvu, double? LossRecovered, Interval? LossRecoveredInterval);

/// <param name="LossRecovered">Against zeros at all of them.</param>
/// <param name="LossRecoveredInterval">Of that.</param>
public sealed record AllHooksResult(double? LossRecovered, Interval? LossRecoveredInterval);

/// <summary>What ablating single latents does to the logits, in means over them.</summary>
/// <param name="Latents">How many were tried.</param>
/// <param name="TopDrop">Fall of the logits that their decoder rows raise most.</param>
/// <param name="PredictedTopDrop">That fall if only the direct path changed.</param>
/// <param name="AnyDrop">Mean fall over the vocabulary.</param>
/// <param name="Correlation">Of fall and predicted fall over the vocabulary.</param>
public sealed record DirectEffectResult(
    int Latents,
    double? TopDrop,
    double? PredictedTopDrop,
    double? AnyDrop,
    double? Correlation
);

/// <summary>Figures of some of the tokens.</summary>
/// <param name="Name">Their class, or their positions in the context.</param>
/// <param name="Tokens">How many.</param>
/// <param name="L0">See <see cref="MetricCatalog"/>, as the others.</param>
/// <param name="Fvu">With these tokens' own mean.</param>
/// <param name="CeClean">Nats.</param>
/// <param name="CeSpliced">Nats.</param>
/// <param name="LossRecovered">1 is lossless.</param>
public sealed record TokenGroup(
    string Name,
    long Tokens,
    double? L0,
    double? Fvu,
    double? CeClean,
    double? CeSpliced,
    double? LossRecovered
);
