namespace Pipeline.Shared.Configuration;

/// <summary>The evaluation: reconstructions spliced back into the model over held-out documents.</summary>
public sealed record EvaluateConfig
{
    /// <summary>Held-out tokens the metrics are taken over; fewer when the held-out documents end. Default
    /// 20k.</summary>
    [AtLeast(1)]
    public TokenCount Tokens { get; init; } = new(20_000);

    /// <summary>Contexts per forward pass. Default 16.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 16;

    /// <summary>Tokens between checkpoints. Default 100k.</summary>
    [AtLeast(1)]
    public TokenCount CheckpointEvery { get; init; } = new(100_000);

    /// <summary>Whether every autoencoder is compared with two reconstructions of its size that took no training: PCA and a
    /// random dictionary, both fitted to the harvest. Default true; they add about half to the evaluation's time.</summary>
    public bool Baselines { get; init; } = true;

    /// <summary>Latents of each autoencoder described by N2G, patterns of tokens that predict where they fire, spread evenly
    /// over the living ones. Default 0. Each takes some hundred short forward passes.</summary>
    [AtLeast(0)]
    public int N2g { get; init; }
}
