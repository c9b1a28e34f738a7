namespace Pipeline.Evaluate.Report;

/// <summary>One metric as the page shows it.</summary>
/// <param name="Key">Key in metrics.json, and column heading.</param>
/// <param name="Definition">What the number is, for a reader who has only the page.</param>
/// <param name="Value">Null for what is no single number (the histogram).</param>
public sealed record MetricDefinition(string Key, string Definition, Func<SaeMetrics, double?>? Value);

/// <summary>The metrics in the order a reader asks for them: how sparse, how much loss survives, how close, how alive.</summary>
public static class MetricCatalog
{
    public static IReadOnlyList<MetricDefinition> All { get; } =
    [
        new("l0", "Mean number of non-zero latents per token.", m => m.L0),
        new(
            "loss_recovered",
            "1 − (ce_spliced − ce_clean) / (ce_zero − ce_clean): share of the loss lost under zero-ablation that the "
                + "reconstruction keeps; a ratio of means over all scored tokens. 1 is lossless.",
            m => m.LossRecovered
        ),
        new(
            "loss_recovered_mean",
            "As loss_recovered, with mean-ablation (ce_mean) as the baseline.",
            m => m.LossRecoveredMean
        ),
        new("ce_clean", "Next-token cross-entropy of the untouched model, nats per token.", m => m.CeClean),
        new("ce_spliced", "Cross-entropy with the reconstruction spliced in at the hook, nats.", m => m.CeSpliced),
        new("ce_zero", "Cross-entropy with the hook's activation set to zero, nats.", m => m.CeZero),
        new("ce_mean", "Cross-entropy with the hook's activation set to its mean, nats.", m => m.CeMean),
        new("ce_delta", "ce_spliced − ce_clean, nats.", m => m.CeDelta),
        new("kl", "Mean KL(clean ‖ spliced) of the next-token distributions over scored tokens, nats.", m => m.Kl),
        new(
            "fvu",
            "Fraction of variance unexplained: Σ|x − x̂|² / Σ|x − x̄|², with x̄ the per-dimension mean. Above 1 the "
                + "reconstruction is worse than the mean.",
            m => m.Fvu
        ),
        new("explained_variance", "1 − fvu.", m => m.ExplainedVariance),
        new(
            "nmse_to_zero",
            "Σ|x − x̂|² / Σ|x|²: error against zero instead of the mean. Not comparable with fvu.",
            m => m.NmseToZero
        ),
        new("mse", "Mean squared error of the reconstruction.", m => m.Mse),
        new("cosine", "Mean cosine between x and x̂.", m => m.Cosine),
        new("l2_ratio", "Mean |x̂| / |x|; below 1 means shrinkage.", m => m.L2Ratio),
        new("relative_bias", "Σ|x̂|² / Σ x·x̂; 1 is unbiased.", m => m.RelativeBias),
        new("l1", "Mean |f|₁ of the latents per token.", m => m.L1),
        new("dead_fraction", "Share of latents that never fired over the evaluated tokens.", m => m.DeadFraction),
        new("tokens", "Tokens scored.", m => m.Tokens),
        new("density_histogram", "Histogram over latents of log10 firing frequency.", null),
    ];
}
