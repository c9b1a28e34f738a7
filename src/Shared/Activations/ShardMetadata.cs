using System.Globalization;

namespace Pipeline.Shared.Activations;

/// <summary>Where a shard's activations come from, as strings in the Arrow schema's metadata under snake_case keys.</summary>
/// <param name="ModelId">The model's folder or hub name with its revision (<c>model_id</c>).</param>
/// <param name="WeightHash">SHA-256 of its weights (<c>weight_hash</c>).</param>
/// <param name="Hook">The hook's resolved name, e.g. <c>blocks.2.hook_resid_post</c> (<c>hook</c>).</param>
/// <param name="TokenizerHash">SHA-256 of its tokenizer (<c>tokenizer_hash</c>).</param>
/// <param name="Context">Tokens a sequence (<c>context</c>).</param>
/// <param name="Seed">The pipeline's seed (<c>seed</c>).</param>
/// <param name="FirstTokenIndex">Index of the shard's first row among the harvest's rows (<c>first_token_index</c>).</param>
/// <param name="DModel">D, values a row (<c>d_model</c>).</param>
public sealed record ShardMetadata(
    string ModelId,
    string WeightHash,
    string Hook,
    string TokenizerHash,
    int Context,
    ulong Seed,
    long FirstTokenIndex,
    int DModel
)
{
    /// <summary>The metadata as Arrow keeps it, in a fixed order.</summary>
    public IReadOnlyList<KeyValuePair<string, string>> ToPairs() =>
        [
            new("model_id", ModelId),
            new("weight_hash", WeightHash),
            new("hook", Hook),
            new("tokenizer_hash", TokenizerHash),
            new("context", Context.ToString(CultureInfo.InvariantCulture)),
            new("seed", Seed.ToString(CultureInfo.InvariantCulture)),
            new("first_token_index", FirstTokenIndex.ToString(CultureInfo.InvariantCulture)),
            new("d_model", DModel.ToString(CultureInfo.InvariantCulture)),
        ];

    /// <exception cref="FormatException">A key is absent or its number malformed.</exception>
    public static ShardMetadata FromPairs(IReadOnlyDictionary<string, string> pairs)
    {
        ArgumentNullException.ThrowIfNull(pairs);
        return new ShardMetadata(
            Text("model_id"),
            Text("weight_hash"),
            Text("hook"),
            Text("tokenizer_hash"),
            int.Parse(Text("context"), CultureInfo.InvariantCulture),
            ulong.Parse(Text("seed"), CultureInfo.InvariantCulture),
            long.Parse(Text("first_token_index"), CultureInfo.InvariantCulture),
            int.Parse(Text("d_model"), CultureInfo.InvariantCulture)
        );

        string Text(string key) =>
            pairs.TryGetValue(key, out string? value)
                ? value
                : throw new FormatException($"the schema metadata has no '{key}'");
    }
}
