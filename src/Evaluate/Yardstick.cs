using System.Text.Json.Nodes;

namespace Pipeline.Evaluate;

/// <summary>
/// What reconstructions at one hook are held against, and the figures this gives: of all tokens, with intervals, and of
/// groups of tokens.
/// </summary>
/// <param name="Clean">The untouched model.</param>
/// <param name="Zero">Zeros in place of the hook's activations.</param>
/// <param name="Inputs">The activations.</param>
/// <param name="Resampled">Documents drawn again and again.</param>
internal sealed record Yardstick(SpliceScore Clean, SpliceScore Zero, InputSums Inputs, Bootstrap Resampled)
{
    private readonly Lazy<(double[] Clean, double[] Zero)> crossEntropiesR = new(() =>
        (Clean.CrossEntropiesOf(Resampled), Zero.CrossEntropiesOf(Resampled))
    );
    private readonly Lazy<double[]> variancesR = new(() => Inputs.VariancesOf(Resampled));

    /// <summary>{ce_spliced, ce_zero, loss_recovered, ce_delta} of a splice, over all tokens or all but those of a class.</summary>
    public JsonObject CostOf(SpliceScore spliced, TokenClass? except = null)
    {
        double Of(SpliceScore score) => SpliceScore.CrossEntropyOf(score.Sums.Total(except));
        var (clean, own, zero) = (Of(Clean), Of(spliced), Of(Zero));
        return new JsonObject
        {
            ["ce_spliced"] = MetricNumber.Of(own),
            ["ce_zero"] = MetricNumber.Of(zero),
            ["loss_recovered"] = MetricNumber.Of(SpliceScore.Recovered(clean, own, zero)),
            ["ce_delta"] = MetricNumber.Of(own - clean),
        };
    }

    /// <summary>What a baseline gives: {size by the name given, fvu, ce_spliced, loss_recovered, ce_delta, intervals}.</summary>
    public JsonObject FiguresOf(Baseline baseline, string sizeName)
    {
        var cost = CostOf(baseline.Spliced);
        double fvu = baseline.SquaredError.Total()[0] / InputSums.VarianceOf(Inputs.Sums.Total());
        return new JsonObject
        {
            [sizeName] = baseline.Size,
            ["fvu"] = MetricNumber.Of(fvu),
            ["ce_spliced"] = cost["ce_spliced"]?.DeepClone(),
            ["loss_recovered"] = cost["loss_recovered"]?.DeepClone(),
            ["ce_delta"] = cost["ce_delta"]?.DeepClone(),
            ["intervals"] = Intervals(baseline.Spliced, baseline.SquaredError, 0),
        };
    }

    /// <summary>{confidence, resamples, documents, loss_recovered, ce_delta} and, of a reconstruction, fvu and l0.</summary>
    /// <param name="spliced">Its splice.</param>
    /// <param name="reconstruction">Sums that hold its squared error; null for several hooks at once.</param>
    /// <param name="error">Their column of that.</param>
    /// <param name="active">Their column of active latents; null for none.</param>
    public JsonObject Intervals(
        SpliceScore spliced,
        GroupedSums? reconstruction = null,
        int error = 0,
        int? active = null
    )
    {
        var (cleanR, zeroR) = crossEntropiesR.Value;
        double[] splicedR = spliced.CrossEntropiesOf(Resampled);
        var intervals = new JsonObject
        {
            ["confidence"] = Bootstrap.Confidence,
            ["resamples"] = Bootstrap.Resamples,
            ["documents"] = Resampled.Documents,
            ["loss_recovered"] = Resampled.Interval(
                splicedR.Select((own, r) => SpliceScore.Recovered(cleanR[r], own, zeroR[r]))
            ),
            ["ce_delta"] = Resampled.Interval(splicedR.Select((own, r) => own - cleanR[r])),
        };
        if (reconstruction is not null)
        {
            double[] errorR = Resampled.Totals(reconstruction, error);
            intervals["fvu"] = Resampled.Interval(errorR.Select((sum, r) => sum / variancesR.Value[r]));
        }
        if (reconstruction is not null && active is { } column)
        {
            double[] activeR = Resampled.Totals(reconstruction, column);
            double[] tokensR = Inputs.TokensOf(Resampled);
            intervals["l0"] = Resampled.Interval(activeR.Select((sum, r) => sum / tokensR[r]));
        }
        return intervals;
    }

    /// <summary>{from, to} in the context and the figures of each band of positions.</summary>
    /// <param name="context">T, tokens a context.</param>
    /// <param name="spliced">The splice.</param>
    /// <param name="reconstruction">The reconstruction.</param>
    public JsonArray ByPosition(int context, SpliceScore spliced, ReconstructionMetrics reconstruction)
    {
        return
        [
            .. Enumerable
                .Range(0, TokenPlace.BandOf(context - 1) + 1)
                .Where(band => HasTokens(Grouping.Position, band))
                .Select(band =>
                {
                    var (from, to) = TokenPlace.PositionsOf(band, context);
                    var figures = OfGroup(Grouping.Position, band, spliced, reconstruction);
                    return new JsonObject([new("from", from), new("to", to), .. figures]);
                }),
        ];
    }

    /// <summary>{class} and the figures of each class that tokens fall into.</summary>
    /// <param name="spliced">The splice.</param>
    /// <param name="reconstruction">The reconstruction.</param>
    public JsonArray ByClass(SpliceScore spliced, ReconstructionMetrics reconstruction) =>
        [
            .. Enum.GetValues<TokenClass>()
                .Where(kind => HasTokens(Grouping.Class, (int)kind))
                .Select(kind => new JsonObject([
                    new("class", Shared.Configuration.Spelling.Of(kind)),
                    .. OfGroup(Grouping.Class, (int)kind, spliced, reconstruction),
                ])),
        ];

    private bool HasTokens(Grouping grouping, int group) => InputSums.TokensOf(Inputs.Sums.Of(grouping, group)) > 0;

    private IEnumerable<KeyValuePair<string, JsonNode?>> OfGroup(
        Grouping grouping,
        int group,
        SpliceScore spliced,
        ReconstructionMetrics reconstruction
    )
    {
        var inputs = Inputs.Sums.Of(grouping, group);
        var sums = reconstruction.Sums.Of(grouping, group);
        double clean = SpliceScore.CrossEntropyOf(Clean.Sums.Of(grouping, group));
        double own = SpliceScore.CrossEntropyOf(spliced.Sums.Of(grouping, group));
        double zero = SpliceScore.CrossEntropyOf(Zero.Sums.Of(grouping, group));
        double tokens = InputSums.TokensOf(inputs);
        return
        [
            new("tokens", (long)tokens),
            new("scored_tokens", (long)SpliceScore.TokensOf(Clean.Sums.Of(grouping, group))),
            new("l0", MetricNumber.Of(sums[ReconstructionMetrics.ActiveLatents] / tokens)),
            new("fvu", MetricNumber.Of(sums[ReconstructionMetrics.SquaredError] / InputSums.VarianceOf(inputs))),
            new("ce_clean", MetricNumber.Of(clean)),
            new("ce_spliced", MetricNumber.Of(own)),
            new("ce_zero", MetricNumber.Of(zero)),
            new("loss_recovered", MetricNumber.Of(SpliceScore.Recovered(clean, own, zero))),
        ];
    }
}
