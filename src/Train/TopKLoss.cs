using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>Losses of one batch, as tensors with gradients.</summary>
/// <param name="Total">Reconstruction + coefficient x Aux.</param>
/// <param name="Reconstruction">Mean over B of Σ over D of (x - x̂)².</param>
/// <param name="Aux">The AuxK loss, 0 without dead latents.</param>
/// <param name="DenseBF">f, the kept activations.</param>
/// <param name="ReconstructionBD">x̂.</param>
/// <param name="ErrorBD">x - x̂, detached.</param>
internal sealed record TopKLosses(
    Tensor Total,
    Tensor Reconstruction,
    Tensor Aux,
    Tensor DenseBF,
    Tensor ReconstructionBD,
    Tensor ErrorBD
);

/// <summary>
/// The TopK objective with AuxK (Gao et al. 2024, sections 2.3 and A.2) in plain tensor operations with autograd. The
/// latents' gradient flows through the kept entries alone.
/// </summary>
internal static class TopKLoss
{
    /// <param name="sae">Parameters that require gradients.</param>
    /// <param name="xBD">Activations.</param>
    /// <param name="coefficient">Weight of the AuxK loss.</param>
    /// <param name="auxK">Dead latents used together.</param>
    /// <param name="deadF">
    /// Given which latents fired in this batch (bool [F]), which count as dead (bool [F]): one that fires now leaves the
    /// dead before AuxK sees them.
    /// </param>
    public static TopKLosses Of(
        TopKAutoencoder sae,
        Tensor xBD,
        double coefficient,
        int auxK,
        Func<Tensor, Tensor> deadF
    )
    {
        var preActsBF = sae.PreActivations(xBD);
        var (topValuesBK, topIndicesBK) = preActsBF.topk(sae.K, -1, sorted: false);
        var denseBF = sae.Dense(new SparseLatents(topIndicesBK, topValuesBK));
        var reconstructionBD = denseBF.matmul(sae.W_dec) + sae.b_dec;
        var errorBD = xBD - reconstructionBD;
        var reconstruction = errorBD.square().sum(-1).mean();
        var deadNowF = deadF(denseBF.detach().sum(dim: 0) > 0);
        var aux = coefficient > 0 ? AuxK(sae, xBD, errorBD.detach(), auxK, deadNowF) : zeros([], xBD.dtype, xBD.device);
        return new TopKLosses(
            reconstruction + (coefficient * aux),
            reconstruction,
            aux,
            denseBF,
            reconstructionBD,
            errorBD.detach()
        );
    }

    /// <summary>
    /// The top dead latents reconstruct what is left; the squared error is divided by that residual's variance about its
    /// batch mean. Nothing left to reconstruct (0/0) counts as 0.
    /// </summary>
    public static Tensor AuxK(TopKAutoencoder sae, Tensor xBD, Tensor residualBD, int auxK, Tensor deadF)
    {
        var deadIndices = deadF.nonzero().squeeze(-1);
        if (deadIndices.numel() == 0)
        {
            return zeros([], xBD.dtype, xBD.device);
        }
        var deadActsBN = sae.PreActivations(xBD, deadIndices);
        var (valuesBK, chosenBK) = deadActsBN.topk((int)Math.Min(auxK, deadIndices.numel()), -1, sorted: false);
        var auxActsBN = zeros_like(deadActsBN).scatter(1, chosenBK, valuesBK);
        var auxReconstructionBD = auxActsBN.matmul(sae.W_dec.index_select(0, deadIndices));
        var error = (residualBD - auxReconstructionBD).square().sum(-1).mean();
        var variance = (residualBD - residualBD.mean([0], keepdim: true)).square().sum(-1).mean();
        return (error / variance).nan_to_num(0.0);
    }
}
