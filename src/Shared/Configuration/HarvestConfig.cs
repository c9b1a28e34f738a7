using Pipeline.Shared.Tokens;

namespace Pipeline.Shared.Configuration;

/// <summary>The harvest: documents to tokens, tokens through the model, activations at the hooks into shards.</summary>
public sealed record HarvestConfig : IValidated
{
    /// <summary>Where activations are read: <c>blocks.2.hook_resid_post</c>; <c>blocks.mid</c> and negative layers
    /// count from the model's depth.</summary>
    [NotEmpty]
    public required IReadOnlyList<string> Hooks { get; init; }

    /// <summary>Tokens a context holds. Default 256. At least 2: one to predict from and one to predict.</summary>
    [AtLeast(2)]
    public int Context { get; init; } = 256;

    /// <summary>An upper bound on the tokens harvested; the harvest ends earlier when the text does.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    /// <summary>How a value is stored. Default float16.</summary>
    public ActivationDtype Dtype { get; init; } = ActivationDtype.Float16;

    /// <summary>Contexts per forward pass. Default 16. A matter of memory and speed.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 16;

    /// <summary>Where beginning-of-sequence tokens go. Default: null, before each document where the tokenizer has such a
    /// token, else nowhere.</summary>
    public BosPolicy? Bos { get; init; }

    /// <summary>Whether an end-of-sequence token follows each document. Default false: the next document's BOS sets it
    /// apart already, and with GPT-2's tokenizer both are the same token.</summary>
    public bool Separator { get; init; }

    /// <summary>The fraction of documents, chosen by a hash of their content, that are kept out of the harvest for
    /// evaluation. Default 0.1; 0 keeps none.</summary>
    [Between(0, 1, BelowMaximum = true)]
    public double HeldOut { get; init; } = 0.1;

    /// <summary>Tokens per shard: what a kill can lose, and the unit of resuming. Default 64k.</summary>
    [AtLeast(1)]
    public TokenCount ShardTokens { get; init; } = new(64_000);

    /// <inheritdoc/>
    public IEnumerable<Fault> Validate(string path)
    {
        for (int i = 0; i < Hooks.Count; i++)
        {
            if (Hooks.Take(i).Contains(Hooks[i]))
            {
                yield return new Fault(
                    ConfigPath.Item(ConfigPath.Join(path, "hooks"), i),
                    $"'{Spelling.Shown(Hooks[i])}' again",
                    "each hook once",
                    "Remove it"
                );
            }
        }
    }
}
