namespace Pipeline.Shared.Configuration;

/// <summary>Activations to sparse autoencoders.</summary>
public sealed record TrainConfig
{
    /// <summary>Activations each SAE sees, passing over the harvest as often as needed.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    /// <summary>Activations a step.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 2048;

    /// <summary>Each is trained at every hook.</summary>
    public required IReadOnlyList<SaeConfig> Saes { get; init; }

    /// <summary>Tokens between checkpoints, rounded up to whole steps.</summary>
    [AtLeast(1)]
    public TokenCount CheckpointEvery { get; init; } = 1_000_000;

    /// <summary>Rows that stay together when the order is drawn: neighbours on disk are read together.</summary>
    [AtLeast(1)]
    public int ShuffleBlock { get; init; } = 64;

    /// <summary>Rows in memory that are shuffled among each other.</summary>
    [AtLeast(1)]
    public int ShuffleWindow { get; init; } = 16_384;
}

/// <summary>Kinds of sparse autoencoder.</summary>
public enum Architecture
{
    /// <summary>The k largest pre-activations, and AuxK for dead latents (Gao et al. 2024).</summary>
    Topk,
}
