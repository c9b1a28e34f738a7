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
        (
            "fvu",
            "sum |x - x_hat|^2 / sum |x - x_mean|^2, x_mean the mean over these tokens; float64; null where x does "
                + "not vary; above 1 the reconstruction is worse than the mean"
        ),
        ("explained_variance", "1 - fvu"),
        ("nmse_to_zero", "sum |x - x_hat|^2 / sum |x|^2: against zero, not the mean, so not to be compared with fvu"),
        ("mse", "mean of (x - x_hat)^2 over tokens and dimensions"),
        ("cosine", "mean over tokens of cos(x, x_hat)"),
        ("l2_ratio", "mean over tokens of |x_hat| / |x|; below 1 is shrinkage"),
        ("relative_bias", "sum |x_hat|^2 / sum x.x_hat; 1 is unbiased"),
        ("ce_clean", "mean next-token cross-entropy of the untouched model, nats per token"),
        ("ce_spliced", "the same with x_hat in place of x at every position of this hook"),
        ("ce_zero", "the same with zeros in place of x"),
        ("ce_mean", "the same with the mean of x over these tokens in place of x"),
        (
            "loss_recovered",
            "1 - (ce_spliced - ce_clean) / (ce_zero - ce_clean), a ratio of means over all scored tokens; 1 is lossless"
        ),
        ("loss_recovered_mean", "1 - (ce_spliced - ce_clean) / (ce_mean - ce_clean)"),
        ("ce_delta", "ce_spliced - ce_clean"),
        ("kl", "mean over scored tokens of KL(clean || spliced), nats"),
        ("dead_fraction", "share of latents that fired on none of these tokens"),
        ("density_histogram", "latents by log10 of the share of these tokens they fired on; dead ones are left out"),
        (
            "intervals",
            "percentile bootstrap over documents: each figure's middle share (confidence) of its values over resamples of the "
                + "documents, drawn with replacement, as many as there are; a ratio of sums in each; null for one document"
        ),
        (
            "without_bos",
            "these figures over the tokens that are not BOS, what is predicted from a BOS left out with it; features/ leaves BOS "
                + "out alike"
        ),
        (
            "by_position",
            "the metrics by the token's position in its context, from and to included, what is predicted from a token counted "
                + "at that token; fvu with the band's own mean"
        ),
        (
            "by_class",
            "the same by what the token is, the first that applies: bos; special: EOS or no text; space: white space alone; "
                + "other: part of a character; then by the first character that is no white space: digits, punctuation "
                + "(symbols too), word-start (a letter after white space), word-continuation (a letter without)"
        ),
        (
            "all_hooks",
            "all SAEs of this name spliced into one forward, each encoding what reaches its hook after those before it; ce_zero "
                + "with zeros at all of these hooks at once; null where there is one hook"
        ),
        (
            "baselines",
            "reconstructions, where this one belongs, that took no training, of the SAE's size, which is its l0 over 8,192 training "
                + "activations, rounded; fitted_rows training activations gave mean and covariance; null where switched off"
        ),
        ("pca", "x_hat = mean + V'V (x - mean), V the directions of greatest variance, directions many"),
        (
            "random",
            "x_hat = mean + W'f, f the k largest of W (x - mean), negative ones 0, W as many random unit vectors as the SAE has "
                + "latents"
        ),
        (
            "direct_effect",
            "of latents spread over the density range, each at the token, BOS apart, on which it is highest: activation x decoder row taken "
                + "from the stream, and the model run on from there; means over these latents"
        ),
        (
            "top_token_drop",
            "fall of the logits at that token, mean over the top_tokens tokens that the decoder row raises most through the "
                + "final norm's weight and the unembedding"
        ),
        ("predicted_top_token_drop", "the same fall if nothing but that direct path changed"),
        (
            "random_token_drop",
            "mean fall over the whole vocabulary (the tokenizer's): a random token's, in expectation"
        ),
        ("correlation", "Pearson's over the vocabulary, of the fall and the predicted fall"),
    ];

    /// <param name="name">A key of metrics.json.</param>
    public static string Of(string name) => All.Single(entry => entry.Name == name).Text;

    public static JsonObject ToJson() =>
        new(All.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text)));
}
