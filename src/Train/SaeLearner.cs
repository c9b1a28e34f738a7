using Pipeline.Shared.Autoencoders;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>Activations to learn from.</summary>
/// <param name="XBD">What is encoded.</param>
/// <param name="TargetBD">What is reconstructed: the same tensor, but for transcoders.</param>
internal readonly record struct TrainingBatch(Tensor XBD, Tensor TargetBD)
{
    public TrainingBatch(Tensor xBD)
        : this(xBD, xBD) { }

    /// <summary>Of a reconstruction, the divergence it causes in the model, a scalar with its gradient; null before fine-tuning.</summary>
    public Func<Tensor, Tensor>? DivergenceOf { get; init; }

    /// <summary>B.</summary>
    public long Rows => XBD.shape[0];
}

/// <summary>What one batch gave; its gradients are in the parameters.</summary>
/// <param name="Loss">What is minimised.</param>
/// <param name="Reconstruction">Mean over the batch of Σ over D of (x - x̂)².</param>
/// <param name="Terms">The other terms by name, before their coefficients.</param>
/// <param name="FireCountsF">Rows each latent fired on, int64 [F].</param>
/// <param name="Kept">Latents that fired, over the batch.</param>
internal sealed record BatchResult(
    double Loss,
    double Reconstruction,
    IReadOnlyList<(string Name, double Value)> Terms,
    Tensor FireCountsF,
    long Kept
)
{
    /// <summary>What is known of W_enc's and W_dec's gradients; null where autograd made them.</summary>
    public RowGradients? Rows { get; init; }
}

/// <summary>What sets one architecture apart in training: its parameters, its gradients, and the SAE it becomes.</summary>
internal abstract class SaeLearner : IDisposable
{
    /// <summary>The SAE whose tensors are trained.</summary>
    public abstract Autoencoder Sae { get; }

    /// <summary>What the optimizer moves.</summary>
    public virtual IReadOnlyList<(string Name, Tensor Value)> Parameters => Sae.Parameters;

    /// <summary>State beside parameters, such as a running threshold.</summary>
    public virtual IReadOnlyList<(string Name, Tensor Value)> Running => [];

    /// <param name="batch">Activations.</param>
    /// <param name="sparsity">How sparse, at this step.</param>
    /// <param name="firings">Told, once, which latents fired.</param>
    public abstract BatchResult Gradients(TrainingBatch batch, SparsityAtStep sparsity, FiringCounter firings);

    /// <summary>The SAE as it is used: shares the trained tensors.</summary>
    public virtual Autoencoder ForInference() => Sae;

    public virtual void Dispose()
    {
        foreach (var (_, value) in Parameters.Concat(Running))
        {
            value.Dispose();
        }
    }
}

/// <summary>Any architecture, by autograd, on any device and in any floating-point type.</summary>
internal sealed class AutogradLearner(Autoencoder sae, Func<Tensor, SparsityAtStep, LossContext, SaeLosses> losses)
    : SaeLearner
{
    public AutogradLearner(Autoencoder sae, Func<Tensor, LossContext, SaeLosses> losses)
        : this(sae, (xBD, _, context) => losses(xBD, context)) { }

    public override Autoencoder Sae => sae;

    public override BatchResult Gradients(TrainingBatch batch, SparsityAtStep sparsity, FiringCounter firings) =>
        Autograd(batch, sparsity, firings, (x, context) => losses(x, sparsity, context)).Result;

    /// <summary>Backward through the losses; the dead are counted once, where the losses ask for them or after.</summary>
    public static (BatchResult Result, SaeLosses Losses) Autograd(
        TrainingBatch batch,
        SparsityAtStep sparsity,
        FiringCounter firings,
        Func<Tensor, LossContext, SaeLosses> losses
    )
    {
        bool counted = false;
        var context = new LossContext(
            sparsity.Scale,
            firedF =>
            {
                counted = true;
                return firings.CountAndFindDead(firedF);
            }
        )
        {
            TargetBD = batch.TargetBD,
        };
        var found = losses(batch.XBD, context);
        found = batch.DivergenceOf is { } divergenceOf ? found.With(divergenceOf(found.ReconstructionBD)) : found;
        found.Total.backward();
        using var none = no_grad();
        var firedBF = found.LatentsBF.detach() > 0;
        if (!counted)
        {
            firings.CountAndFindDead(firedBF.any(0));
        }
        var result = new BatchResult(
            found.Total.to(float64).item<double>(),
            found.Reconstruction.to(float64).item<double>(),
            [.. found.Terms.Select(term => (term.Name, term.Value.to(float64).item<double>()))],
            firedBF.sum(dim: 0),
            firedBF.sum().item<long>()
        );
        return (result, found);
    }
}

/// <summary>When BatchTopK's inference threshold is averaged, and over how long.</summary>
/// <param name="FromStep">The first step that counts: before it the weights say little of the last.</param>
/// <param name="Kept">β of the running mean.</param>
internal sealed record ThresholdAverage(long FromStep, double Kept)
{
    /// <summary>
    /// dictionary_learning's 0.999 from step 1,000 on, or where training is too short for that a tenth of it from the middle
    /// on: the first values would otherwise outweigh the last.
    /// </summary>
    public static ThresholdAverage Over(long steps) =>
        new(Math.Min(1000, steps / 2), 1 - (1.0 / Math.Clamp(steps / 10.0, 1, 1000)));
}

/// <summary>
/// TopK, BatchTopK and Matryoshka. Where k is an average in training, a running mean of the smallest activation kept stands for
/// it at inference, the first value taken as it is. All of fine-tuning is autograd's, since its gradients come through the model.
/// </summary>
/// <param name="sae">The parameters.</param>
/// <param name="objective">K, over what, and AuxK's numbers.</param>
/// <param name="average">Of the threshold; null where k is each row's own.</param>
/// <param name="hasKernel">Whether <see cref="KSparseCpuGradients"/> can stand for autograd before fine-tuning.</param>
/// <param name="projectionEpsilon">As <see cref="RowGradients.Measure"/> has it.</param>
internal sealed class KSparseLearner(
    TopKAutoencoder sae,
    KSparseObjective objective,
    ThresholdAverage? average,
    bool hasKernel,
    double? projectionEpsilon
) : SaeLearner
{
    private const double Unset = -1;

    private readonly Tensor threshold = full([1], Unset, float64).DetachFromDisposeScope();
    private readonly Tensor seen = zeros([1], int64).DetachFromDisposeScope();
    private KSparseCpuGradients? kernel;

    public override Autoencoder Sae => sae;

    public override IReadOnlyList<(string Name, Tensor Value)> Running =>
        average is null ? [] : [("running_threshold", threshold), ("steps_seen", seen)];

    public double Threshold => threshold.item<double>();

    public override BatchResult Gradients(TrainingBatch batch, SparsityAtStep sparsity, FiringCounter firings)
    {
        var now = objective with { K = sparsity.K ?? sae.K };
        var (result, smallestKept) =
            hasKernel && batch.DivergenceOf is null
                ? ByKernel(batch.XBD, now, firings)
                : ByAutograd(batch, sparsity, now, firings);
        if (average is not null)
        {
            if (seen.item<long>() >= average.FromStep)
            {
                threshold.fill_(
                    Threshold < 0 ? smallestKept : (average.Kept * Threshold) + ((1 - average.Kept) * smallestKept)
                );
            }
            seen.add_(1);
        }
        return result;
    }

    public override Autoencoder ForInference() =>
        average is null
            ? sae
            : new JumpReluAutoencoder(
                sae.W_enc,
                sae.b_enc,
                full([sae.Features], Threshold, sae.W_dec.dtype, sae.W_dec.device),
                sae.W_dec,
                sae.b_dec
            )
            {
                SubtractsDecoderBias = sae.SubtractsDecoderBias,
                W_skip = sae.W_skip,
            };

    public override void Dispose()
    {
        kernel?.Dispose();
        threshold.Dispose();
        seen.Dispose();
        base.Dispose();
    }

    private (BatchResult Result, double SmallestKept) ByKernel(Tensor xBD, KSparseObjective now, FiringCounter firings)
    {
        if (kernel is null || kernel.Batch != xBD.shape[0] || kernel.K != now.K)
        {
            kernel?.Dispose();
            kernel = new KSparseCpuGradients(sae, now, (int)xBD.shape[0], projectionEpsilon);
        }
        bool hasAuxK = now.AuxCoefficient > 0;
        kernel.Compute(xBD, hasAuxK ? firings.DeadUnlessFiringF() : null);
        var fireCountsF = kernel.FireCountsF();
        var deadF = firings.CountAndFindDead(fireCountsF > 0);
        double auxLoss = hasAuxK ? kernel.AddAuxK(deadF) : 0;
        var result = new BatchResult(
            kernel.Loss + (now.AuxCoefficient * auxLoss),
            kernel.Reconstruction,
            [.. kernel.Terms, ("aux_loss", auxLoss)],
            fireCountsF,
            kernel.Kept
        )
        {
            Rows = kernel.Rows,
        };
        return (result, kernel.SmallestKept);
    }

    private (BatchResult Result, double SmallestKept) ByAutograd(
        TrainingBatch batch,
        SparsityAtStep sparsity,
        KSparseObjective now,
        FiringCounter firings
    )
    {
        if (kernel is not null)
        {
            kernel.Dispose();
            kernel = null;
            foreach (var (_, parameter) in Parameters)
            {
                parameter.grad?.zero_(); // the kernel leaves gradients where autograd would add to them
            }
        }
        var (result, losses) = AutogradLearner.Autograd(
            batch,
            sparsity,
            firings,
            (x, context) => now.Of(sae, x, context)
        );
        return (result, average is null ? 0 : KSparseObjective.SmallestKept(losses.LatentsBF));
    }
}

/// <summary>JumpReLU; the logarithm of θ is what learns, so that θ stays positive.</summary>
internal sealed class JumpReluLearner(JumpReluAutoencoder withLogThreshold, JumpReluObjective objective) : SaeLearner
{
    public override Autoencoder Sae => withLogThreshold;

    public override BatchResult Gradients(TrainingBatch batch, SparsityAtStep sparsity, FiringCounter firings) =>
        AutogradLearner
            .Autograd(
                batch,
                sparsity,
                firings,
                (x, context) => objective.Of(withLogThreshold, withLogThreshold.Threshold.exp(), x, context)
            )
            .Result;

    public override Autoencoder ForInference() =>
        withLogThreshold with
        {
            Threshold = withLogThreshold.Threshold.detach().exp(),
        };
}

/// <summary>
/// p-anneal (Karvonen et al. 2024, Measuring Progress in Dictionary Learning, section 4). At each level of p the penalty's
/// weight is multiplied by what keeps λ Σ f^p, over the last batches of the level before, the same for the new p.
/// </summary>
internal sealed class PAnnealLearner(StandardAutoencoder sae, double l1, PAnnealLevels levels) : SaeLearner
{
    private readonly Tensor scale = ones([1], float64).DetachFromDisposeScope();

    /// <summary>Σ f^p over the last batches of a level, with its p and with the next level's.</summary>
    private readonly Tensor sums = zeros([2], float64).DetachFromDisposeScope();

    public override Autoencoder Sae => sae;

    public override IReadOnlyList<(string Name, Tensor Value)> Running =>
        [("anneal_scale", scale), ("anneal_sums", sums)];

    public override BatchResult Gradients(TrainingBatch batch, SparsityAtStep sparsity, FiringCounter firings)
    {
        int level = levels.Level(sparsity.Step);
        if (level != levels.Level(sparsity.Step - 1))
        {
            double next = sums[1].item<double>();
            scale.mul_(next > 0 ? sums[0].item<double>() / next : 1);
            sums.zero_();
        }
        var objective = new StandardObjective(l1 * scale.item<double>(), WeighsByDecoderNorm: false)
        {
            P = levels.P(level),
        };
        var (result, losses) = AutogradLearner.Autograd(
            batch,
            sparsity,
            firings,
            (x, context) => objective.Of(sae, x, context)
        );
        if (levels.IsAboutToChange(sparsity.Step))
        {
            var latentsBF = losses.LatentsBF.detach();
            sums[0].add_(LossTerms.Lp(latentsBF, levels.P(level)).to(float64));
            sums[1].add_(LossTerms.Lp(latentsBF, levels.P(level + 1)).to(float64));
        }
        return result;
    }
}

/// <summary>p's course: 1 at first, then <see cref="Levels"/> values from 1 to <paramref name="End"/>, equally far apart.</summary>
/// <param name="From">Steps before the first level.</param>
/// <param name="Total">Steps of the whole training.</param>
/// <param name="End">p at the last level.</param>
internal sealed record PAnnealLevels(long From, long Total, double End)
{
    private const int Levels = 10;
    private const int BatchesCompared = 10;

    public int Level(long step) =>
        step < From ? 0 : (int)Math.Min(Levels - 1, (step - From) * Levels / Math.Max(1, Total - From));

    public double P(int level) => 1 + ((End - 1) * Math.Min(level, Levels - 1) / (Levels - 1));

    /// <summary>Whether one of the next batches begins another level.</summary>
    public bool IsAboutToChange(long step) => Level(step) != Level(step + BatchesCompared);
}
