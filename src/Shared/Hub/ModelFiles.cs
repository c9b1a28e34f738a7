using System.Text.Json;

namespace Pipeline.Shared.Hub;

/// <summary>What a model folder needs of a repository, which often holds the same weights in several formats.</summary>
internal static class ModelFiles
{
    private const string SingleWeights = "model.safetensors";
    private const string WeightIndex = SingleWeights + ".index.json";

    private static readonly string[] Names =
    [
        "config.json",
        "generation_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "vocab.json",
        "merges.txt",
        "special_tokens_map.json",
    ];

    public static bool Needs(string path) =>
        !path.Contains('/')
        && (
            Names.Contains(path)
            || path.EndsWith(".safetensors", StringComparison.Ordinal)
            || path.EndsWith(".safetensors.index.json", StringComparison.Ordinal)
        );

    /// <summary>What a snapshot folder, which another program may have filled, lacks as a model; null for nothing.</summary>
    public static string? Lacks(string folder)
    {
        bool Has(string name) => File.Exists(Path.Combine(folder, name));
        if (!Has("config.json"))
        {
            return "config.json";
        }
        if (!Has("tokenizer.json") && !Has("tokenizer.model") && !(Has("vocab.json") && Has("merges.txt")))
        {
            return "tokenizer.json, tokenizer.model, or vocab.json with merges.txt";
        }
        if (Has(SingleWeights))
        {
            return null;
        }
        return Has(WeightIndex)
            ? Shards(Path.Combine(folder, WeightIndex)).FirstOrDefault(name => !Has(name))
            : SingleWeights;
    }

    private static string[] Shards(string index)
    {
        try
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(index));
            return
            [
                .. json.RootElement.GetProperty("weight_map").EnumerateObject().Select(e => e.Value.GetString() ?? ""),
            ];
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            return [WeightIndex];
        }
    }
}
