using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Report;

/// <summary>
/// An evaluation's <c>features</c> folder, numbers and texts invented. Every <c>describeEach</c>-th latent is described; of
/// latent i the top token is word i of a list, so that a test knows what to look for.
/// </summary>
internal static class FeatureFolder
{
    private const int Block = 64;

    private static readonly string[] Words =
    [
        " river",
        " stone",
        " capital",
        " 1984",
        " bridge",
        " season",
        " album",
        " species",
        "ing",
        " was",
        "\n",
        " Kraków",
        " والي",
        " 東京",
        ",",
        " the",
    ];

    /// <summary>Tokens that would be markup if anything took them for it.</summary>
    public static IReadOnlyList<string> Hostile { get; } =
    [
        "</script><img src=x onerror=document.title='owned'>",
        "\"onmouseover=alert(1) x=\"",
        "&lt;b&gt;'\\\u2028",
        "<!--<script>",
    ];

    public static string TopTokenOf(int latent) => Words[latent % Words.Length];

    public static bool IsDead(int latent) => latent % 97 == 5;

    public static bool IsDense(int latent) => latent % 211 == 7;

    /// <param name="latents">How many, all of them in the columns.</param>
    /// <param name="describeEach">Every how manyth is described, beginning with the first.</param>
    /// <param name="hostile">A described latent whose tokens are <see cref="Hostile"/>; -1 for none.</param>
    /// <returns>Files by name.</returns>
    public static IEnumerable<(string Name, string Content)> Files(int latents, int describeEach, int hostile = -1)
    {
        int[] described = [.. Enumerable.Range(0, latents).Where(i => i % describeEach == 0 && !IsDead(i))];
        var blockOf = described.Index().ToDictionary(d => d.Item, d => d.Index / Block);
        yield return ("index.json", Index(latents, blockOf, hostile));
        foreach (var (number, members) in described.Chunk(Block).Index())
        {
            yield return (
                string.Create(CultureInfo.InvariantCulture, $"block-{number:D5}.json"),
                new JsonObject
                {
                    ["latents"] = new JsonArray([.. members.Select(i => (JsonNode)Latent(i, latents, i == hostile))]),
                }.ToJsonString()
            );
        }
    }

    private static double Density(int latent) =>
        IsDead(latent) ? 0
        : IsDense(latent) ? 0.34
        : Math.Pow(10, -1.2 - (3.3 * Unit(latent, 1)));

    private static double Max(int latent) => IsDead(latent) ? 0 : Math.Round(1 + (30 * Unit(latent, 2)), 3);

    private static double F1(int latent) => Math.Round(Unit(latent, 3), 4);

    private static double Unit(int latent, int purpose) =>
        new Xoshiro256((ulong)((latent * 8) + purpose)).NextInt(10_000) / 1e4;

    private static string Index(int latents, Dictionary<int, int> blockOf, int hostile)
    {
        int[] all = [.. Enumerable.Range(0, latents)];
        return JsonSerializer.Serialize(
            new
            {
                latents,
                tokens = 200_000,
                block = Block,
                n2g = new
                {
                    latents = blockOf.Count,
                    precision = 0.9,
                    recall = 0.6,
                    f1 = 0.5125,
                },
                columns = new
                {
                    density = all.Select(Density),
                    max_activation = all.Select(Max),
                    mean_activation = all.Select(i => Math.Round(Max(i) * 0.3, 3)),
                    top_token = all.Select(i =>
                        IsDead(i) ? ""
                        : i == hostile ? Hostile[0]
                        : TopTokenOf(i)
                    ),
                    dead = all.Select(i => IsDead(i) ? 1 : 0),
                    dense = all.Select(i => IsDense(i) ? 1 : 0),
                    n2g_f1 = all.Select(i => blockOf.ContainsKey(i) ? F1(i) : (double?)null),
                    block = all.Select(i => blockOf.GetValueOrDefault(i, -1)),
                },
                definitions = new Dictionary<string, string>
                {
                    ["density"] = "share of the evaluated tokens on which the latent fires",
                    ["n2g_f1"] = "harmonic mean of the precision and recall of the latent's patterns",
                    ["nearest_coactivation"] = "tokens on which both fire / tokens on which either does",
                    ["direct_effect.top_token_drop"] = "fall of the logits",
                },
            }
        );
    }

    private static JsonObject Latent(int i, int latents, bool hostile)
    {
        string[] tokens = hostile
            ? [.. Hostile]
            : ["The", TopTokenOf(i + 3), " of", TopTokenOf(i + 1), TopTokenOf(i), " and", "\n"];
        int peak = hostile ? 0 : 4;
        double max = Max(i);
        JsonObject Example(double share, int number) =>
            new()
            {
                ["tokens"] = Array(tokens),
                ["activations"] = Array(
                    tokens.Select(
                        (_, t) =>
                            t == peak ? max * share
                            : t == 1 ? max * share / 4
                            : 0
                    )
                ),
                ["peak"] = peak,
                ["document"] = 100 + number,
                ["position"] = 17 * number,
            };
        JsonArray Effects(double sign) =>
            Array(
                Enumerable
                    .Range(0, 10)
                    .Select(n => new
                    {
                        token = hostile ? Hostile[n % 4] : TopTokenOf(i + n),
                        value = sign * (2.4 - (0.2 * n)),
                    })
            );
        JsonArray Near(double first) =>
            Array(Enumerable.Range(1, 8).Select(n => new { latent = (i + (n * 13)) % latents, value = first / n }));
        return new JsonObject
        {
            ["index"] = i,
            ["density"] = Density(i),
            ["max_activation"] = max,
            ["mean_activation"] = Math.Round(max * 0.3, 3),
            ["dead"] = false,
            ["dense"] = IsDense(i),
            ["histogram"] = new JsonObject
            {
                ["edges"] = Array(Enumerable.Range(0, 21).Select(n => max * n / 20)),
                ["counts"] = Array(Enumerable.Range(0, 20).Select(n => (int)(900 * Math.Exp(-n / 4.0)))),
            },
            ["top_logits"] = Effects(1),
            ["bottom_logits"] = Effects(-1),
            ["nearest_cosine"] = Near(0.7),
            ["nearest_coactivation"] = Near(0.4),
            ["direct_effect"] =
                i % 20 == 0
                    ? new JsonObject
                    {
                        ["top_token_drop"] = 0.125,
                        ["predicted_top_token_drop"] = 2.5,
                        ["random_token_drop"] = -0.0625,
                        ["correlation"] = null,
                    }
                    : null,
            ["n2g"] = new JsonObject
            {
                ["precision"] = 0.9,
                ["recall"] = 0.6,
                ["f1"] = F1(i),
                ["patterns"] = Array(
                    new object[]
                    {
                        new
                        {
                            tokens = new[] { TopTokenOf(i) },
                            can_pad_start = true,
                            activation = max,
                        },
                        new
                        {
                            tokens = new[] { tokens[0], null, TopTokenOf(i) },
                            can_pad_start = false,
                            activation = max / 2,
                        },
                    }
                ),
            },
            ["top"] = new JsonArray([.. Enumerable.Range(0, 10).Select(n => (JsonNode)Example(1 - (n * 0.02), n))]),
            ["quantiles"] = new JsonArray([
                .. Enumerable
                    .Range(0, 5)
                    .Select(band =>
                        (JsonNode)
                            new JsonObject
                            {
                                ["from"] = max * (4 - band) / 5,
                                ["to"] = max * (5 - band) / 5,
                                ["count"] = 10 << (2 * band),
                                ["examples"] = new JsonArray([
                                    .. Enumerable.Range(0, 5).Select(n => (JsonNode)Example((4.8 - band) / 5, 10 + n)),
                                ]),
                            }
                    ),
            ]),
        };
    }

    private static JsonArray Array<T>(IEnumerable<T> values) => JsonSerializer.SerializeToNode(values)!.AsArray();
}
