using System.Text.Json.Nodes;

namespace Pipeline.Evaluate.Features;

/// <summary>One definition for each column of index.json and each field of the block files.</summary>
internal static class FeatureDefinitions
{
    private static readonly (string Name, string Text)[] All =
    [
        (
            "tokens",
            "held-out tokens evaluated, BOS left out: what fires on it counts nowhere here; density, activations and top examples are over all of them"
        ),
        (
            "sample_tokens",
            "those of them that histogram, quantiles, nearest_coactivation and n2g are over: whole contexts drawn evenly, all of them where they fit in memory"
        ),
        ("density", "share of tokens on which the latent's activation is above 0"),
        ("max_activation", "its largest activation; 0 where it never fires"),
        ("mean_activation", "mean activation over the tokens it fires on; 0 where it never fires"),
        ("top_token", "the token with the largest activation; empty where it never fires"),
        ("dead", "fires on none of the tokens"),
        ("dense", "fires on more than a tenth of the tokens"),
        ("n2g_f1", "f1 of the latent's n2g; null where it has none"),
        ("block", "number of the file block-NNNNN.json that describes the latent; -1 where none does"),
        (
            "histogram",
            "activations above 0 in equal bins from 0 to max_activation, each from above its lower edge up to its upper edge; no edges where it never fires"
        ),
        (
            "top_logits",
            "next tokens whose logits the decoder row raises most by itself: row (its mean taken off where the model has LayerNorm) x final norm's weight x unembedding; the division by the stream's size is left out, so only ratios count"
        ),
        ("bottom_logits", "those it lowers most"),
        ("nearest_cosine", "latents with the largest cosine of decoder rows"),
        (
            "nearest_coactivation",
            "latents with the largest Jaccard index: tokens on which both fire / tokens on which either does"
        ),
        (
            "direct_effect",
            "what taking the latent away at the token on which it is highest does to that token's logits, of latents spread over the density range; null for the others. Their means are direct_effect in metrics.json"
        ),
        (
            "direct_effect.top_token_drop",
            "fall of the logits, mean over the 10 tokens that the decoder row raises most"
        ),
        ("direct_effect.predicted_top_token_drop", "the same fall if nothing but the direct path changed"),
        ("direct_effect.random_token_drop", "mean fall over the whole vocabulary: a random token's, in expectation"),
        (
            "direct_effect.correlation",
            "Pearson's over the vocabulary, of the fall and the fall by the direct path alone; null where either does not vary"
        ),
        (
            "top",
            "the tokens with the largest activations, the earlier first of equal ones, each with the text around it"
        ),
        (
            "quantiles",
            "fifths of the activations above 0, the largest first: smallest and largest activation, how many there are, and up to 5 drawn evenly"
        ),
        (
            "example",
            "tokens and the latent's activation on each, 0 on a BOS; peak is the one it is about, which stands in the text source's document number `document` at token `position`"
        ),
        (
            "n2g",
            "Neuron to Graph: patterns made of the contexts of the sample with even numbers, tested on those with odd numbers; null for latents that were not described so"
        ),
        (
            "n2g.examples",
            "contexts the patterns were made of: cut after the latent's largest activation, those with the largest"
        ),
        (
            "n2g.patterns",
            "of each example the shortest suffix on which the latent keeps half its activation; null is any token, one whose replacement by the pad token costs less than half; without can_pad_start it begins the text"
        ),
        ("n2g.predicted", "tokens for which a pattern predicts an activation"),
        ("n2g.fired", "tokens on which the latent fires"),
        ("n2g.both", "tokens that are both"),
        (
            "n2g.precision",
            "both / predicted; null where nothing was predicted; on its own in index.json the mean over the latents that have it"
        ),
        ("n2g.recall", "both / fired; null where it never fired; the mean alike"),
        ("n2g.f1", "2 both / (predicted + fired); null where there is neither; the mean alike"),
    ];

    public static JsonObject ToJson() =>
        new(All.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text)));
}
