namespace Pipeline.Evaluate.Report;

/// <summary>One metric as the page shows it.</summary>
/// <param name="Key">Key in metrics.json, and column heading.</param>
/// <param name="Value">Null for what is no single number (the histogram).</param>
public sealed record MetricDefinition(string Key, Func<SaeMetrics, double?>? Value)
{
    /// <summary>What the number is, where the artifact itself does not say it.</summary>
    public string Definition => MetricDefinitions.Of(Key);
}

/// <summary>The metrics in the order a reader asks for them: how sparse, how much loss survives, how close, how alive.</summary>
public static class MetricCatalog
{
    public static IReadOnlyList<MetricDefinition> All { get; } =
    [
        new("l0", m => m.L0),
        new("loss_recovered", m => m.LossRecovered),
        new("loss_recovered_mean", m => m.LossRecoveredMean),
        new("ce_clean", m => m.CeClean),
        new("ce_spliced", m => m.CeSpliced),
        new("ce_zero", m => m.CeZero),
        new("ce_mean", m => m.CeMean),
        new("ce_delta", m => m.CeDelta),
        new("kl", m => m.Kl),
        new("fvu", m => m.Fvu),
        new("explained_variance", m => m.ExplainedVariance),
        new("nmse_to_zero", m => m.NmseToZero),
        new("mse", m => m.Mse),
        new("cosine", m => m.Cosine),
        new("l2_ratio", m => m.L2Ratio),
        new("relative_bias", m => m.RelativeBias),
        new("l1", m => m.L1),
        new("dead_fraction", m => m.DeadFraction),
        new("tokens", m => m.Tokens),
        new("density_histogram", null),
    ];
}
