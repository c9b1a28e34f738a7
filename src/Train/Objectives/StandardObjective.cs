using Pipeline.Shared.Autoencoders;
using static TorchSharp.torch;

namespace Pipeline.Train.Objectives;

/// <summary>
/// |x - x̂|² + λ Σ f (Bricken et al. 2023, Towards Monosemanticity: decoder rows of unit norm, kept so by the trainer), or with
/// <paramref name="WeighsByDecoderNorm"/> |x - x̂|² + λ Σ f |d| (Conerly et al., April 2024: no constraint on the decoder).
/// </summary>
/// <param name="Sparsity">λ.</param>
/// <param name="WeighsByDecoderNorm">April 2024's form.</param>
internal sealed record StandardObjective(double Sparsity, bool WeighsByDecoderNorm)
{
    /// <summary>The latents' exponent in the penalty: below 1, small ones cost more than their share (Karvonen et al. 2024).</summary>
    public double P { get; init; } = 1;

    public SaeLosses Of(StandardAutoencoder sae, Tensor xBD, LossContext context)
    {
        var centeredBD = sae.SubtractsDecoderBias ? xBD - sae.b_dec : xBD;
        var latentsBF = nn.functional.relu(nn.functional.linear(centeredBD, sae.W_enc, sae.b_enc));
        var targetBD = context.TargetOf(xBD);
        var reconstructionBD = sae.WithSkip(latentsBF.matmul(sae.W_dec) + sae.b_dec, xBD);
        var reconstruction = LossTerms.SquaredError(targetBD, reconstructionBD);
        var penalty =
            P == 1
                ? LossTerms.L1(latentsBF, WeighsByDecoderNorm ? LossTerms.DecoderNormsF(sae.W_dec) : null)
                : LossTerms.Lp(latentsBF, P);
        return new SaeLosses(
            reconstruction + (Sparsity * context.SparsityScale * penalty),
            reconstruction,
            [(P == 1 ? "l1" : "lp", penalty)],
            latentsBF,
            reconstructionBD
        );
    }
}
