using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train.Objectives;

/// <summary>
/// Keeps the k largest latents of each row (TopK, Gao et al. 2024) or the k·B largest of the batch (BatchTopK, Bussmann et al.
/// 2024), and revives dead ones by AuxK. With groups, each prefix of the dictionary reconstructs x by itself (Matryoshka,
/// Bussmann et al. 2025).
/// </summary>
internal sealed record KSparseObjective
{
    public required int K { get; init; }

    /// <summary>Whether k is an average over the batch.</summary>
    public bool OverBatch { get; init; }

    /// <summary>Latents of each group, the first of the dictionary first; null for one group.</summary>
    public IReadOnlyList<int>? GroupSizes { get; init; }

    /// <summary>Weight of each group's reconstruction in the sum; null for equal ones that sum to 1.</summary>
    public IReadOnlyList<double>? GroupWeights { get; init; }

    /// <summary>Selects by activation times decoder norm, so that a decoder without constraint cannot cheat the selection.</summary>
    public bool SelectsByDecoderNorm { get; init; }

    /// <summary>Weight of a second reconstruction, from the 4k largest latents (Gao et al. 2024, section 4.3: 1/8).</summary>
    public double MultiCoefficient { get; init; }

    public double AuxCoefficient { get; init; }

    public int AuxK { get; init; }

    public AuxKForm AuxKForm { get; init; }

    public SaeLosses Of(TopKAutoencoder sae, Tensor xBD, LossContext context)
    {
        var centeredBD = sae.SubtractsDecoderBias ? xBD - sae.b_dec : xBD;
        var preActsBF = nn.functional.linear(centeredBD, sae.W_enc, sae.b_enc);
        var W_dec = sae.W_dec;
        if (SelectsByDecoderNorm)
        {
            var normsF1 = W_dec.norm(1, keepdim: true);
            preActsBF = preActsBF * normsF1.squeeze(-1);
            W_dec = W_dec / normsF1;
        }
        var reluBF = nn.functional.relu(preActsBF);
        var latentsBF = Keep(reluBF, K);
        var targetBD = context.TargetOf(xBD);
        var baseBD = sae.WithSkip(sae.b_dec.expand_as(xBD), xBD);
        var (reconstruction, terms, reconstructionBD) = Reconstruct(latentsBF, W_dec, baseBD, targetBD);
        if (MultiCoefficient > 0)
        {
            var more = LossTerms.SquaredError(targetBD, Keep(reluBF, MoreK(sae.Features)).matmul(W_dec) + baseBD);
            reconstruction = reconstruction + (MultiCoefficient * more);
            terms.Add(("mse_4k", more));
        }
        var deadF = context.DeadF(latentsBF.detach().sum(dim: 0) > 0);
        var aux = Auxiliary(preActsBF, W_dec, sae.b_dec, (targetBD - reconstructionBD).detach(), deadF);
        terms.Add(("aux_loss", aux));
        return new SaeLosses(
            reconstruction + (AuxCoefficient * aux),
            LossTerms.SquaredError(targetBD, reconstructionBD),
            terms,
            latentsBF,
            reconstructionBD
        );
    }

    /// <summary>The smallest positive latent kept of the batch, for the threshold that stands for k at inference.</summary>
    public static double SmallestKept(Tensor latentsBF)
    {
        using var scope = NewDisposeScope();
        var positive = latentsBF.detach().masked_select(latentsBF.detach() > 0);
        return positive.numel() == 0 ? 0 : positive.min().to(float64).item<double>();
    }

    private int MoreK(int features) => Math.Min(4 * K, features);

    private Tensor Keep(Tensor reluBF, int k)
    {
        if (OverBatch)
        {
            var flat = reluBF.flatten();
            var (valuesN, indicesN) = flat.topk(
                (int)Math.Min(flat.numel(), (long)k * reluBF.shape[0]),
                -1,
                sorted: false
            );
            return zeros_like(flat).scatter(0, indicesN, valuesN).reshape(reluBF.shape);
        }
        var (valuesBK, indicesBK) = reluBF.topk(k, -1, sorted: false);
        return zeros_like(reluBF).scatter(1, indicesBK, valuesBK);
    }

    /// <param name="latentsBF">f.</param>
    /// <param name="W_dec">The decoder.</param>
    /// <param name="baseBD">What stands without any latent: b_dec, and what a transcoder skips.</param>
    /// <param name="targetBD">What is reconstructed.</param>
    private (Tensor Loss, List<(string, Tensor)> Terms, Tensor ReconstructionBD) Reconstruct(
        Tensor latentsBF,
        Tensor W_dec,
        Tensor baseBD,
        Tensor targetBD
    )
    {
        var terms = new List<(string, Tensor)>();
        if (GroupSizes is not { } sizes)
        {
            var wholeBD = latentsBF.matmul(W_dec) + baseBD;
            return (LossTerms.SquaredError(targetBD, wholeBD), terms, wholeBD);
        }
        var reconstructionBD = baseBD;
        var loss = zeros([], targetBD.dtype, targetBD.device);
        long first = 0;
        for (int group = 0; group < sizes.Count; group++)
        {
            var ownBG = latentsBF.narrow(1, first, sizes[group]);
            reconstructionBD = reconstructionBD + ownBG.matmul(W_dec.narrow(0, first, sizes[group]));
            first += sizes[group];
            var squaredError = LossTerms.SquaredError(targetBD, reconstructionBD);
            loss = loss + (squaredError * (GroupWeights?[group] ?? (1.0 / sizes.Count)));
            terms.Add(($"mse_{first}", squaredError));
        }
        return (loss, terms, reconstructionBD);
    }

    /// <summary>The dead latents' loss; 0 where none is dead.</summary>
    private Tensor Auxiliary(Tensor preActsBF, Tensor W_dec, Tensor b_dec, Tensor residualBD, Tensor deadF)
    {
        var deadIndices = deadF.nonzero().squeeze(-1);
        long dead = deadIndices.numel();
        if (dead == 0 || AuxCoefficient == 0)
        {
            return zeros([], residualBD.dtype, residualBD.device);
        }
        var deadActsBN = preActsBF.index_select(1, deadIndices);
        var W_dead = W_dec.index_select(0, deadIndices);
        if (AuxKForm != AuxKForm.ScaledByDead)
        {
            var movingBias = AuxKForm == AuxKForm.NormalizedMovingBias ? b_dec - b_dec.detach() : null;
            return NormalizedError(nn.functional.relu(deadActsBN), AuxK, W_dead, residualBD, movingBias);
        }
        var decodedBD = Decode(deadActsBN, AuxK, W_dead) + b_dec;
        return LossTerms.SquaredError(residualBD, decodedBD) * Math.Min(1, dead / (double)AuxK);
    }

    /// <summary>
    /// Error of the top dead latents' decoding over the residual's variance about its batch mean. Nothing left to
    /// reconstruct (0/0) counts as 0.
    /// </summary>
    internal static Tensor NormalizedError(
        Tensor deadActsBN,
        int auxK,
        Tensor W_dead,
        Tensor residualBD,
        Tensor? movingBias = null
    )
    {
        var decodedBD = Decode(deadActsBN, auxK, W_dead);
        decodedBD = movingBias is null ? decodedBD : decodedBD + movingBias;
        var variance = (residualBD - residualBD.mean([0], keepdim: true)).square().sum(-1).mean();
        return (LossTerms.SquaredError(residualBD, decodedBD) / variance).nan_to_num(0.0);
    }

    private static Tensor Decode(Tensor deadActsBN, int auxK, Tensor W_dead)
    {
        var (valuesBK, chosenBK) = deadActsBN.topk((int)Math.Min(auxK, deadActsBN.shape[1]), -1, sorted: false);
        return zeros_like(deadActsBN).scatter(1, chosenBK, valuesBK).matmul(W_dead);
    }
}

/// <summary>How the dead latents' reconstruction of the residual is scored.</summary>
internal enum AuxKForm
{
    /// <summary>Error over the residual's variance, positive activations (Gao et al. 2024, section A.2).</summary>
    Normalized,

    /// <summary>The same, its gradient reaching b_dec as well: OpenAI's code adds b_dec to both sides, detached on one.</summary>
    NormalizedMovingBias,

    /// <summary>Plain error of a decoding with b_dec, scaled by dead over k_aux, any sign of activations: SAELens' form.</summary>
    ScaledByDead,
}
