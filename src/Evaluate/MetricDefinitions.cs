using System.Text.Json.Nodes;

namespace Pipeline.Evaluate;

/// <summary>One definition for each metric; written into every metrics.json beside the figures.</summary>
internal static class MetricDefinitions
{
    private static readonly (string Name, string Text)[] All =
    [
        ("tokens", "held-out tokens the reconstruction was measured on"),
        ("scored_tokens", "next tokens predicted: every token of a context but its first"),
        ("l0", "mean number of non-zero latents per token"),
        ("l1", "mean over tokens of the sum of the latents' activations"),
        ("fvu", "sum |x - x_hat|^2 / sum |x - x_mean|^2, x_mean the mean over these tokens; float64"),
        ("explained_variance", "1 - fvu"),
        ("nmse_to_zero", "sum |x - x_hat|^2 / sum |x|^2"),
        ("mse", "mean of (x - x_hat)^2 over tokens and dimensions"),
        ("cosine", "mean over tokens of cos(x, x_hat)"),
        ("l2_ratio", "mean over tokens of |x_hat| / |x|"),
        ("relative_bias", "sum |x_hat|^2 / sum x.x_hat"),
        ("ce_clean", "mean next-token cross-entropy of the untouched model, nats per token"),
        ("ce_spliced", "the same with x_hat in place of x at every position of this hook"),
        ("ce_zero", "the same with zeros in place of x"),
        ("ce_mean", "the same with the mean of x over these tokens in place of x"),
        ("loss_recovered", "1 - (ce_spliced - ce_clean) / (ce_zero - ce_clean)"),
        ("loss_recovered_mean", "1 - (ce_spliced - ce_clean) / (ce_mean - ce_clean)"),
        ("ce_delta", "ce_spliced - ce_clean"),
        ("kl", "mean over scored tokens of KL(clean || spliced), nats"),
        ("dead_fraction", "share of latents that fired on none of these tokens"),
        ("density_histogram", "latents by log10 of the share of these tokens they fired on; dead ones are left out"),
        ("without_bos", "reconstruction metrics over the tokens that are not BOS"),
    ];

    public static JsonObject ToJson() =>
        new(All.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text)));
}
