using Pipeline.Shared.Tokens;

namespace Pipeline.Shared.Configuration;

/// <summary>How activations are stored.</summary>
public enum ActivationDtype
{
    Float32,

    /// <summary>Half the size; values beyond 65,504 are refused.</summary>
    Float16,
}

/// <summary>Text to activations.</summary>
public sealed record HarvestConfig : IValidated
{
    /// <summary>TransformerLens names; the layer may be negative (from the end) or <c>mid</c>.</summary>
    public required IReadOnlyList<string> Hooks { get; init; }

    /// <summary>Tokens a context; at most what the model was made for.</summary>
    [AtLeast(2)]
    public int Context { get; init; } = 256;

    /// <summary>An upper bound: the harvest ends earlier where the text does.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    public ActivationDtype Dtype { get; init; } = ActivationDtype.Float16;

    /// <summary>Contexts a forward pass.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 16;

    /// <summary>Where the BOS token goes. A model whose tokenizer has none needs <c>none</c>.</summary>
    public BosPolicy Bos { get; init; } = BosPolicy.EachDocument;

    /// <summary>Whether the tokenizer's EOS follows every document. With GPT-2's tokenizer BOS and EOS are the same token.</summary>
    public bool Separator { get; init; }

    /// <summary>Fraction of documents, chosen by their content, that is never harvested: evaluation reads those.</summary>
    [Between(0.001, 0.9)]
    public double HeldOut { get; init; } = 0.1;

    /// <summary>Rows a shard, rounded up to whole batches; a shard is the unit of resuming.</summary>
    [AtLeast(1)]
    public TokenCount ShardTokens { get; init; } = 65_536;

    public IEnumerable<Fault> Validate(string where)
    {
        const long MaximumShardTokens = 4_000_000;
        if (ShardTokens > MaximumShardTokens)
        {
            yield return new Fault(
                $"{where}.shardTokens",
                ShardTokens.ToString(),
                $"at most {MaximumShardTokens}",
                "Shards must stay under 2 GiB: choose fewer tokens"
            );
        }
    }
}
