using Pipeline.Shared.Autoencoders;
using static TorchSharp.torch;

namespace Pipeline.Train.Objectives;

/// <summary>
/// f = z · 1[z > θ]; |x - x̂|² plus a sparsity term (Rajamanoharan et al. 2024, Jumping Ahead). θ learns through straight-through
/// estimators with a rectangle of width ε: ∂f/∂θ = -(θ/ε) rect((z-θ)/ε), ∂1[z>θ]/∂θ = -(1/ε) rect((z-θ)/ε); to z goes the hard
/// mask alone. Both are written as (θ - θ.detach()) times the estimator: 0 in value, the estimator in gradient.
/// </summary>
internal sealed record JumpReluObjective
{
    public required JumpReluSparsity Sparsity { get; init; }

    /// <summary>λ.</summary>
    public required double Coefficient { get; init; }

    /// <summary>ε, in units of the activations.</summary>
    public required double Bandwidth { get; init; }

    /// <summary>Of <see cref="JumpReluSparsity.TargetL0"/>.</summary>
    public double TargetL0 { get; init; }

    /// <summary>Of <see cref="JumpReluSparsity.Tanh"/>: c in tanh(c f |d|).</summary>
    public double TanhScale { get; init; } = 4;

    /// <summary>Of <see cref="JumpReluSparsity.Tanh"/>: weight of Σ ReLU(θ - z) |d|, which brings back latents that never fire.</summary>
    public double PreActCoefficient { get; init; }

    /// <summary>Whether that term is taken over dead latents alone.</summary>
    public bool PreActOnDeadAlone { get; init; }

    /// <param name="sae">Its parameters, but for the threshold.</param>
    /// <param name="thresholdF">θ [F], a parameter or a function of one (e.g. the exponential of a logarithm).</param>
    /// <param name="xBD">Activations.</param>
    /// <param name="context">Warm-up and dead latents.</param>
    public SaeLosses Of(JumpReluAutoencoder sae, Tensor thresholdF, Tensor xBD, LossContext context)
    {
        var centeredBD = sae.SubtractsDecoderBias ? xBD - sae.b_dec : xBD;
        var preActsBF = nn.functional.linear(centeredBD, sae.W_enc, sae.b_enc);
        var frozenF = thresholdF.detach();
        var learningF = thresholdF - frozenF;
        var maskBF = (preActsBF > frozenF).to(xBD.dtype);
        var windowBF = LossTerms.Rectangle((preActsBF.detach() - frozenF) / Bandwidth);
        var latentsBF = (preActsBF * maskBF) - (learningF * (frozenF / Bandwidth) * windowBF);
        var targetBD = context.TargetOf(xBD);
        var reconstructionBD = sae.WithSkip(latentsBF.matmul(sae.W_dec) + sae.b_dec, xBD);
        var reconstruction = LossTerms.SquaredError(targetBD, reconstructionBD);
        var terms = new List<(string Name, Tensor Value)>();
        Tensor sparsity;
        switch (Sparsity)
        {
            case JumpReluSparsity.L0:
                sparsity = L0(maskBF, learningF, windowBF);
                terms.Add(("l0_loss", sparsity));
                sparsity = Coefficient * sparsity;
                break;
            case JumpReluSparsity.TargetL0:
                // Here the step looks at f, not at z: below the threshold f is 0, which the rectangle sees only if θ < ε/2.
                var firedBF = (latentsBF.detach() > frozenF).to(xBD.dtype);
                var aroundBF = LossTerms.Rectangle((latentsBF.detach() - frozenF) / Bandwidth);
                sparsity = ((L0(firedBF, learningF, aroundBF) / TargetL0) - 1).square();
                terms.Add(("l0_loss", sparsity));
                sparsity = Coefficient * sparsity;
                break;
            default:
                var normsF = LossTerms.DecoderNormsF(sae.W_dec);
                var tanhTerm = tanh(TanhScale * latentsBF * normsF).sum(-1).mean();
                var deadF = PreActOnDeadAlone
                    ? context.DeadF((latentsBF.detach() > 0).any(0)).to(xBD.dtype)
                    : ones_like(frozenF);
                var preAct = (nn.functional.relu(thresholdF - preActsBF) * deadF * normsF).sum(-1).mean();
                terms.AddRange([("l0_loss", tanhTerm), ("pre_act_loss", preAct)]);
                sparsity = (Coefficient * tanhTerm) + (PreActCoefficient * preAct);
                break;
        }
        return new SaeLosses(
            reconstruction + (context.SparsityScale * sparsity),
            reconstruction,
            terms,
            latentsBF,
            reconstructionBD
        );
    }

    /// <summary>Mean number of latents above their threshold, with its estimator's gradient to θ.</summary>
    private Tensor L0(Tensor firedBF, Tensor learningF, Tensor windowBF) =>
        (firedBF - (learningF / Bandwidth * windowBF)).sum(-1).mean();
}

/// <summary>How JumpReLU's sparsity is asked for.</summary>
internal enum JumpReluSparsity
{
    /// <summary>λ L0 (Rajamanoharan et al. 2024).</summary>
    L0,

    /// <summary>λ (L0 / target - 1)².</summary>
    TargetL0,

    /// <summary>λ Σ tanh(c f |d|), and ReLU(θ - z) |d| (Anthropic's update of January 2025).</summary>
    Tanh,
}
