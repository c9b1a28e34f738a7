using static TorchSharp.torch;

namespace Pipeline.Train.Objectives;

/// <summary>What a batch costs an SAE in training, and what it cost it with; Total carries the gradient graph.</summary>
/// <param name="Total">What is minimised.</param>
/// <param name="Reconstruction">Mean over the batch of Σ over D of (x - x̂)².</param>
/// <param name="Terms">The other terms by name, before their coefficients.</param>
/// <param name="LatentsBF">f, [B, F].</param>
/// <param name="ReconstructionBD">x̂, [B, D].</param>
internal sealed record SaeLosses(
    Tensor Total,
    Tensor Reconstruction,
    IReadOnlyList<(string Name, Tensor Value)> Terms,
    Tensor LatentsBF,
    Tensor ReconstructionBD
)
{
    /// <summary>
    /// Adds the divergence that the reconstruction causes in the model, weighted to be as large as the squared error is now
    /// (Karvonen 2025, section 3).
    /// </summary>
    public SaeLosses With(Tensor divergence)
    {
        var weight = Reconstruction.detach() / divergence.detach().clamp_min(1e-12);
        return this with { Total = Total + (weight * divergence), Terms = [.. Terms, ("kl", divergence)] };
    }
}

/// <summary>What a loss depends on beside weights and activations.</summary>
/// <param name="SparsityScale">From 0 to 1 during the sparsity's warm-up.</param>
/// <param name="DeadF">
/// Given which latents fired in this batch (bool [F]), which count as dead (bool [F]): one that fires now leaves the dead
/// before an auxiliary loss sees them.
/// </param>
internal sealed record LossContext(double SparsityScale, Func<Tensor, Tensor> DeadF)
{
    /// <summary>What a transcoder reconstructs from x, [B, D]; null where it is x itself.</summary>
    public Tensor? TargetBD { get; init; }

    /// <summary>What is to be reconstructed from x.</summary>
    public Tensor TargetOf(Tensor xBD) => TargetBD ?? xBD;

    /// <summary>No warm-up, nothing dead.</summary>
    public static LossContext Plain { get; } = new(1, fired => zeros_like(fired));
}

internal static class LossTerms
{
    /// <summary>Mean over the batch of Σ over D of (x - x̂)².</summary>
    public static Tensor SquaredError(Tensor xBD, Tensor reconstructionBD) =>
        (xBD - reconstructionBD).square().sum(-1).mean();

    /// <summary>Σ over latents of f, each weighted by its decoder row's norm where one is given; mean over the batch.</summary>
    public static Tensor L1(Tensor latentsBF, Tensor? normsF) =>
        (normsF is null ? latentsBF : latentsBF * normsF).sum(-1).mean();

    /// <summary>Σ over active latents of f^p, mean over the batch; latents of 0 give 0 and no gradient.</summary>
    public static Tensor Lp(Tensor latentsBF, double p)
    {
        var activeBF = latentsBF.detach() > 0;
        return where(activeBF, latentsBF, ones_like(latentsBF)).pow(p).mul(activeBF).sum(-1).mean();
    }

    public static Tensor DecoderNormsF(Tensor W_dec) => W_dec.norm(1, keepdim: true).squeeze(-1);

    /// <summary>1 where |u| &lt; ½: the kernel of JumpReLU's straight-through estimators.</summary>
    public static Tensor Rectangle(Tensor u) => (u.abs() < 0.5).to(u.dtype);
}
