using System.Text.Json;

namespace Pipeline.Shared.Hub;

/// <summary>What a model folder needs of a repository, which often holds the same weights in several formats.</summary>
internal static class ModelFiles
{
    private const string SingleWeights = "model.safetensors";
    private const string WeightIndex = SingleWeights + ".index.json";
    private const string SingleStateDict = "pytorch_model.bin";
    private const string StateDictIndex = SingleStateDict + ".index.json";

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

    /// <summary>Weights as repositories have them that are older than safetensors.</summary>
    public static bool IsStateDict(string path) =>
        path is SingleStateDict or StateDictIndex
        || (
            !path.Contains('/')
            && path.StartsWith("pytorch_model-", StringComparison.Ordinal)
            && path.EndsWith(".bin", StringComparison.Ordinal)
        );

    public static bool IsSafetensors(string path) =>
        Needs(path) && path.EndsWith(".safetensors", StringComparison.Ordinal);

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
        if (Has(SingleWeights) || (!Has(WeightIndex) && Has(SingleStateDict)))
        {
            return null;
        }
        return Has(WeightIndex) ? Missing(WeightIndex)
            : Has(StateDictIndex) ? Missing(StateDictIndex)
            : SingleWeights;

        string? Missing(string index) => Shards(Path.Combine(folder, index)).FirstOrDefault(name => !Has(name));
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
            return [Path.GetFileName(index)];
        }
    }
}
