using System.Globalization;

namespace Pipeline.Shared.Activations;

/// <summary>What the rows of a shard are; kept in the Arrow schema's metadata, so that a shard explains itself.</summary>
public sealed record ShardMetadata
{
    public required string Model { get; init; }
    public required string ModelHash { get; init; }
    public required string Hook { get; init; }
    public required string TokenizerHash { get; init; }
    public required int Context { get; init; }
    public required ulong Seed { get; init; }

    /// <summary>Index in the harvest of the first row.</summary>
    public required long FirstToken { get; init; }

    internal Dictionary<string, string> ToDictionary() =>
        new(StringComparer.Ordinal)
        {
            ["model"] = Model,
            ["model_hash"] = ModelHash,
            ["hook"] = Hook,
            ["tokenizer_hash"] = TokenizerHash,
            ["context"] = Context.ToString(CultureInfo.InvariantCulture),
            ["seed"] = Seed.ToString(CultureInfo.InvariantCulture),
            ["first_token"] = FirstToken.ToString(CultureInfo.InvariantCulture),
        };
}
