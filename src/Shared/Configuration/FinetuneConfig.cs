namespace Pipeline.Shared.Configuration;

/// <summary>
/// A last stretch of training end to end: the reconstruction is spliced into the model, and KL(clean ‖ spliced) joins the
/// SAE's own loss, weighted so that it counts as much as the squared error (Karvonen 2025, Revisiting End-to-End Sparse
/// Autoencoder Training).
/// </summary>
public sealed record FinetuneConfig
{
    /// <summary>Tokens of the text, from its beginning, after those learnt from activations.</summary>
    [AtLeast(1)]
    public required TokenCount Tokens { get; init; }

    /// <summary>Contexts a step. Default 8. Their logits are in memory with their gradients.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 8;

    /// <summary>The learning rate at its beginning, from which it falls linearly to 0. Default 1e-4.</summary>
    [Above(0)]
    public double LearningRate { get; init; } = 1e-4;
}
