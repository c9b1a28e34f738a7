using System.Text.Json.Nodes;

namespace Pipeline.Evaluate.N2G;

/// <summary>n2g.json: latents, their mean, and what the figures are.</summary>
internal static class N2GReport
{
    private static readonly (string Name, string Text)[] Definitions =
    [
        (
            "examples",
            "contexts the patterns were made of: of every second evaluated context, cut after its largest activation, those with the largest"
        ),
        (
            "patterns",
            "of each example the shortest suffix on which the latent keeps half its activation; null is any token, one whose replacement by the pad token costs less than half; without can_pad_start it begins the text"
        ),
        ("predicted", "tokens of the other evaluated contexts for which a pattern predicts an activation"),
        ("fired", "tokens of these on which the latent fired"),
        ("both", "tokens that are both"),
        ("precision", "both / predicted; null where nothing was predicted"),
        ("recall", "both / fired; null where it never fired"),
        ("f1", "2 both / (predicted + fired)"),
        ("mean", "over the latents that have the figure; f1 over all that fired or were predicted"),
    ];

    public static JsonObject ToJson(IReadOnlyList<(JsonObject Json, N2GScore Score)> latents) =>
        new()
        {
            ["latents"] = new JsonArray([.. latents.Select(latent => (JsonNode)latent.Json)]),
            ["mean"] = new JsonObject
            {
                ["precision"] = Mean(latents.Select(latent => latent.Score.Precision)),
                ["recall"] = Mean(latents.Select(latent => latent.Score.Recall)),
                ["f1"] = Mean(latents.Select(latent => latent.Score.F1)),
            },
            ["definitions"] = new JsonObject(
                Definitions.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text))
            ),
        };

    private static double? Mean(IEnumerable<double?> figures) => figures.Average();
}
