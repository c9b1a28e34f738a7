namespace Pipeline.Shared.Configuration;

/// <summary>Training: every autoencoder sees the same activations in the same order.</summary>
public sealed record TrainConfig : IValidated
{
    /// <summary>Tokens each autoencoder learns from, in as many passes over the harvest as that takes.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    /// <summary>Rows (tokens) per step. Default 2048.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 2048;

    /// <summary>The autoencoders, each trained at every hook. A key <c>sweep</c> beside this one adds to them: a section
    /// like one of these, or a list of such, in which a list of values stands for each of them, and several lists for
    /// every combination.</summary>
    [NotEmpty]
    [Swept("sweep")]
    public required IReadOnlyList<SaeConfig> Saes { get; init; }

    /// <summary>Tokens between checkpoints. Default 1M.</summary>
    [AtLeast(1)]
    public TokenCount CheckpointEvery { get; init; } = new(1_000_000);

    /// <summary>Neighbouring rows that are read from disk together. Default 64. Fewer mix better and read
    /// slower.</summary>
    [AtLeast(1)]
    public int ShuffleBlock { get; init; } = 64;

    /// <summary>Rows that the next is drawn from. Default 16384; they are read where they lie in the page cache, memory is
    /// 40 bytes each. At least <see cref="ShuffleBlock"/>.</summary>
    [AtLeast(1)]
    public int ShuffleWindow { get; init; } = 16_384;

    /// <summary>Autoencoders of a hook that learn together from one reading of its activations; more take further
    /// readings. Default 8. Each holds its weights, gradients and two moments in memory: 16 times F times twice D
    /// bytes. The results do not depend on it.</summary>
    [AtLeast(1)]
    public int SaesPerPass { get; init; } = 8;

    /// <summary>What can be told without knowing the model: fields that contradict each other, autoencoders given
    /// twice.</summary>
    public IEnumerable<Fault> Validate(string path)
    {
        if (ShuffleBlock > ShuffleWindow)
        {
            yield return new Fault(
                ConfigPath.Join(path, "shuffleBlock"),
                $"{ShuffleBlock}",
                $"at most shuffleWindow, which is {ShuffleWindow}",
                "Lower shuffleBlock or raise shuffleWindow"
            );
        }
        foreach (Fault fault in Duplicates(path, sae => (object?)sae.Name?.ToUpperInvariant() ?? sae))
        {
            yield return fault;
        }
    }

    /// <summary>What takes the model's width to tell: k above the number of features, two autoencoders that would share
    /// a folder.</summary>
    /// <param name="dModel">D, the width of the activations.</param>
    /// <param name="path">This section's path, <c>train</c>.</param>
    public IEnumerable<Fault> Validate(int dModel, string path)
    {
        List<Fault> faults =
        [
            .. Saes.SelectMany((sae, i) => sae.Validate(dModel, ConfigPath.Item(ConfigPath.Join(path, "saes"), i))),
        ];
        // An identifier needs the number of features, which may be what is wrong.
        return faults.Count > 0 ? faults : Duplicates(path, sae => sae.Identifier(dModel).ToUpperInvariant());
    }

    private IEnumerable<Fault> Duplicates(string path, Func<SaeConfig, object> identity)
    {
        var first = new Dictionary<object, int>();
        for (int i = 0; i < Saes.Count; i++)
        {
            object key = identity(Saes[i]);
            if (!first.TryAdd(key, i))
            {
                yield return new Fault(
                    ConfigPath.Item(ConfigPath.Join(path, "saes"), i),
                    $"the same autoencoder or name as saes[{first[key]}]",
                    "each autoencoder once, in a folder of its own",
                    "Remove it, or set it apart with another name or seed"
                );
            }
        }
    }
}
