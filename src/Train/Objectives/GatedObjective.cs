using Pipeline.Shared.Autoencoders;
using static TorchSharp.torch;

namespace Pipeline.Train.Objectives;

/// <summary>
/// With π = W_enc (x - b_dec): |x - x̂|² + λ Σ ReLU(π + b_gate) + |x - x̂_frozen(ReLU(π + b_gate))|² (Rajamanoharan et al. 2024,
/// Improving Dictionary Learning with Gated SAEs, section 3.2). The last term trains the gate alone: decoder and b_dec are
/// detached in it.
/// </summary>
/// <param name="Sparsity">λ.</param>
/// <param name="WeighsByDecoderNorm">Weigh each gate by its decoder row's norm, for decoders without a constraint.</param>
internal sealed record GatedObjective(double Sparsity, bool WeighsByDecoderNorm = false)
{
    public SaeLosses Of(GatedAutoencoder sae, Tensor xBD, LossContext context)
    {
        var centeredBD = sae.SubtractsDecoderBias ? xBD - sae.b_dec : xBD;
        var projectedBF = nn.functional.linear(centeredBD, sae.W_enc);
        var gateBF = projectedBF + sae.b_gate;
        var magnitudesBF = nn.functional.relu((projectedBF * sae.r_mag.exp()) + sae.b_mag);
        var latentsBF = magnitudesBF * (gateBF > 0).to(xBD.dtype);
        var targetBD = context.TargetOf(xBD);
        var reconstructionBD = sae.WithSkip(latentsBF.matmul(sae.W_dec) + sae.b_dec, xBD);
        var reconstruction = LossTerms.SquaredError(targetBD, reconstructionBD);
        var openBF = nn.functional.relu(gateBF);
        var l1 = LossTerms.L1(openBF, WeighsByDecoderNorm ? LossTerms.DecoderNormsF(sae.W_dec) : null);
        var frozen = sae with { W_skip = sae.W_skip?.detach() };
        var gatedBD = frozen.WithSkip(openBF.matmul(sae.W_dec.detach()) + sae.b_dec.detach(), xBD);
        var auxiliary = LossTerms.SquaredError(targetBD, gatedBD);
        return new SaeLosses(
            reconstruction + (Sparsity * context.SparsityScale * l1) + auxiliary,
            reconstruction,
            [("l1", l1), ("aux_loss", auxiliary)],
            latentsBF,
            reconstructionBD
        );
    }
}
