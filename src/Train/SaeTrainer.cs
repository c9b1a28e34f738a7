using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>What an SAE is optimised with, whatever its architecture.</summary>
internal sealed record SaeRecipe
{
    /// <summary>Tokens without firing after which a latent is dead.</summary>
    public required long DeadAfter { get; init; }

    /// <summary>Largest joint norm of the gradients; 0 for none.</summary>
    public required double GradientClip { get; init; }

    /// <summary>Adam's β2.</summary>
    public const double Beta2 = 0.999;

    /// <summary>Adam's β1.</summary>
    public double Beta1 { get; init; } = 0.9;

    /// <summary>Whether decoder rows are kept at unit norm.</summary>
    public bool UnitDecoder { get; init; } = true;

    /// <summary>Added to a row's norm where the gradient along it is removed: 1e-6 in dictionary_learning's TopK trainers, 0 in its others.</summary>
    public double ProjectionEpsilon { get; init; } = 1e-6;
}

/// <summary>Figures of one training step, over its batch.</summary>
/// <param name="Loss">What is minimised.</param>
/// <param name="Mse">Mean over the batch of Σ over D of (x - x̂)².</param>
/// <param name="Terms">The loss's other terms by name, before their coefficients.</param>
/// <param name="Fvu">Σ|x - x̂|² / Σ|x - x̄|², x̄ the batch's mean; null where it was not asked for.</param>
/// <param name="L0">Mean number of positive latents.</param>
/// <param name="Dead">Latents that count as dead after this batch.</param>
/// <param name="GradientNorm">Before clipping.</param>
internal readonly record struct StepMetrics(
    double Loss,
    double Mse,
    IReadOnlyList<(string Name, double Value)> Terms,
    double? Fvu,
    double L0,
    long Dead,
    double GradientNorm
);

/// <summary>
/// One SAE in training. A step: losses and gradients, then the optimizer. Weights, moments, the learner's running values, the counters
/// of tokens since each latent fired, and the step number are the whole state.
/// </summary>
internal sealed class SaeTrainer : IDisposable
{
    private readonly SaeRecipe recipe;
    private readonly SaeLearner learner;
    private readonly SaeOptimizer optimizer;
    private readonly Tensor tokensSinceFiredF;
    private readonly Tensor fireCountsF;
    private readonly Tensor countedTokens;
    private readonly Tensor resampled;

    /// <param name="recipe">The numbers.</param>
    /// <param name="learner">Initial weights; trained in place, disposed with this.</param>
    public SaeTrainer(SaeRecipe recipe, SaeLearner learner)
        : this(recipe, learner, SaeOptimizer.For(learner, recipe)) { }

    /// <param name="recipe">The numbers.</param>
    /// <param name="learner">Initial weights; trained in place, disposed with this.</param>
    /// <param name="optimizer">Of the learner's parameters by the same numbers.</param>
    public SaeTrainer(SaeRecipe recipe, SaeLearner learner, SaeOptimizer optimizer)
    {
        (this.recipe, this.learner, this.optimizer) = (recipe, learner, optimizer);
        foreach (var (_, parameter) in learner.Parameters)
        {
            parameter.requires_grad_(true);
        }
        tokensSinceFiredF = NewCounter(Sae.Features);
        fireCountsF = NewCounter(Sae.Features);
        countedTokens = NewCounter(1);
        resampled = NewCounter(1);
        Tensor NewCounter(long size) => zeros([size], int64, Sae.W_dec.device).DetachFromDisposeScope();
    }

    /// <summary>The SAE whose tensors are trained.</summary>
    public Autoencoder Sae => learner.Sae;

    /// <summary>The SAE as it is used after training; it shares the trained tensors.</summary>
    public Autoencoder ForInference() => learner.ForInference();

    /// <summary>Steps done.</summary>
    public long Step => optimizer.Steps;

    /// <summary>Latents resampled so far.</summary>
    public long Resampled => resampled.item<long>();

    public StepMetrics TrainOneStep(Tensor xBD, double learningRate) =>
        TrainOneStep(new TrainingBatch(xBD), learningRate, new SparsityAtStep(Step));

    /// <param name="batch">What to learn from.</param>
    /// <param name="learningRate">Of this step.</param>
    /// <param name="sparsity">Of this step.</param>
    /// <param name="measuresFvu">Whether the batch's FVU is wanted, which takes a pass over it.</param>
    public StepMetrics TrainOneStep(
        TrainingBatch batch,
        double learningRate,
        SparsityAtStep sparsity,
        bool measuresFvu = false
    )
    {
        using var scope = NewDisposeScope();
        var result = learner.Gradients(
            batch,
            sparsity,
            new FiringCounter(tokensSinceFiredF, recipe.DeadAfter, batch.Rows)
        );
        double norm = optimizer.Step(learningRate, result.Rows);
        using var none = no_grad();
        fireCountsF.add_(result.FireCountsF);
        countedTokens.add_(batch.Rows);
        return new StepMetrics(
            result.Loss,
            result.Reconstruction,
            result.Terms,
            measuresFvu ? result.Reconstruction * batch.Rows / Variance(batch.TargetBD) : null,
            result.Kept / (double)batch.Rows,
            (tokensSinceFiredF >= recipe.DeadAfter).sum().item<long>(),
            norm
        );
    }

    /// <summary>
    /// Gives latents that did not fire for <paramref name="windowTokens"/> tokens a new beginning (Bricken et al. 2023): a
    /// badly reconstructed input as decoder row, of unit norm; the same direction as encoder row, of a fifth of the living
    /// rows' mean norm; every other value of theirs, Adam's moments too, 0.
    /// </summary>
    /// <param name="windowTokens">Tokens without firing.</param>
    /// <param name="batches">Activations [B, D], scaled as in training, to draw inputs from.</param>
    /// <param name="seed">Of the draws.</param>
    public void Resample(long windowTokens, IEnumerable<Tensor> batches, ulong seed)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var deadF = tokensSinceFiredF >= windowTokens;
        var deadIndices = deadF.nonzero().squeeze(-1);
        if (deadIndices.shape[0] == 0)
        {
            return;
        }
        var inference = ForInference();
        var inputsND = NeuronResampling.Draw(
            batches,
            xBD => (xBD - inference.Reconstruct(xBD)).square().sum(-1),
            deadIndices.shape[0],
            seed
        );
        var latentsN = deadIndices.narrow(0, 0, inputsND.shape[0]);
        var unitND = inputsND / inputsND.norm(1, keepdim: true).clamp_min(finfo(inputsND.dtype).eps);
        var encoderNormsF = Sae.W_enc.norm(1, keepdim: true).squeeze(-1);
        var livingF = encoderNormsF.masked_select(~deadF);
        double living = (livingF.numel() > 0 ? livingF : encoderNormsF).mean().to(float64).item<double>();
        foreach (
            var (name, value) in learner.Parameters.Where(parameter => !ReferenceEquals(parameter.Value, Sae.b_dec))
        )
        {
            if (ReferenceEquals(value, Sae.W_dec))
            {
                value.index_copy_(0, latentsN, unitND);
            }
            else if (ReferenceEquals(value, Sae.W_enc))
            {
                value.index_copy_(0, latentsN, unitND * (NeuronResampling.EncoderShare * living));
            }
            else
            {
                value.index_fill_(0, latentsN, 0);
            }
            optimizer.ForgetRows(name, latentsN);
        }
        tokensSinceFiredF.index_fill_(0, latentsN, 0);
        resampled.add_(latentsN.shape[0]);
    }

    /// <summary>Makes latents count as having last fired so many tokens ago, all others as firing now.</summary>
    public void SetTokensSinceFired(Tensor latentsN, long tokens) =>
        tokensSinceFiredF.zero_().index_fill_(0, latentsN, tokens);

    /// <summary>Everything a checkpoint holds, by name.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State() =>
        [
            .. learner.Parameters,
            .. learner.Running,
            .. optimizer.State(),
            ("tokens_since_fired", tokensSinceFiredF),
            ("fire_counts", fireCountsF),
            ("counted_tokens", countedTokens),
            ("resampled", resampled),
        ];

    public void Restore(Func<string, Tensor> load, long step)
    {
        using var none = no_grad();
        foreach (var (name, value) in State())
        {
            using var saved = load(name);
            value.copy_(saved);
        }
        optimizer.Steps = step;
    }

    /// <summary>Begins counting how often each latent fires.</summary>
    public void ResetFireCounts()
    {
        fireCountsF.zero_();
        countedTokens.zero_();
    }

    /// <summary>Share of tokens each latent fired on since <see cref="ResetFireCounts"/>, float64 [F].</summary>
    public Tensor FiringFrequencyF() => fireCountsF.to(float64) / countedTokens.to(float64);

    public void Dispose()
    {
        learner.Dispose();
        foreach (var (_, value) in optimizer.State())
        {
            value.Dispose();
        }
        tokensSinceFiredF.Dispose();
        fireCountsF.Dispose();
        countedTokens.Dispose();
        resampled.Dispose();
    }

    private static double Variance(Tensor xBD) =>
        (xBD - xBD.mean([0], keepdim: true)).square().sum(float64).item<double>();
}
