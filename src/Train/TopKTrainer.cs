using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>What a TopK SAE is trained with.</summary>
internal sealed record TopKRecipe
{
    public required int Features { get; init; }
    public required int K { get; init; }
    public required int AuxK { get; init; }
    public required double AuxCoefficient { get; init; }

    /// <summary>Tokens without firing after which a latent is dead.</summary>
    public required long DeadAfter { get; init; }
    public required double GradientClip { get; init; }

    /// <summary>Of the decoder's initial directions.</summary>
    public required ulong Seed { get; init; }
}

/// <summary>Figures of one training step, over its batch.</summary>
/// <param name="Loss">Reconstruction + coefficient x AuxK.</param>
/// <param name="Mse">Mean over the batch of Σ over D of (x - x̂)².</param>
/// <param name="AuxLoss">AuxK loss, 0 without dead latents.</param>
/// <param name="Fvu">Σ|x - x̂|² / Σ|x - x̄|², x̄ the batch's mean.</param>
/// <param name="L0">Mean number of positive latents.</param>
/// <param name="Dead">Latents that count as dead after this batch.</param>
/// <param name="GradientNorm">Before clipping.</param>
internal readonly record struct StepMetrics(
    double Loss,
    double Mse,
    double AuxLoss,
    double Fvu,
    double L0,
    long Dead,
    double GradientNorm
);

/// <summary>
/// One TopK SAE in training. A step: losses and gradients; the decoder gradient's component along each row removed; joint
/// clipping; Adam; decoder rows back to unit norm. Weights, moments, the counters of tokens since each latent fired, and
/// the step number are the whole state.
/// </summary>
internal sealed class TopKTrainer : IDisposable
{
    private readonly TopKRecipe recipe;
    private readonly Adam adam;
    private readonly Tensor tokensSinceFiredF;
    private readonly Tensor fireCountsF;
    private readonly Tensor countedTokens;
    private TopKCpuGradients? kernel;

    /// <param name="recipe">The numbers.</param>
    /// <param name="sae">Initial weights; trained in place.</param>
    public TopKTrainer(TopKRecipe recipe, TopKAutoencoder sae)
    {
        (this.recipe, Sae) = (recipe, sae);
        foreach (var (_, parameter) in Parameters())
        {
            parameter.requires_grad_(true);
        }
        UsesKernel = sae.W_dec.device_type == DeviceType.CPU && sae.W_dec.dtype == ScalarType.Float32;
        adam = new Adam(Parameters(), beta1: 0.9, beta2: 0.999);
        tokensSinceFiredF = NewCounter(recipe.Features);
        fireCountsF = NewCounter(recipe.Features);
        countedTokens = NewCounter(1);
        Tensor NewCounter(long size) => zeros([size], int64, sae.W_dec.device).DetachFromDisposeScope();
    }

    public TopKAutoencoder Sae { get; }

    /// <summary>Whether the hand-written CPU path runs; it needs float32 weights on the CPU.</summary>
    public bool UsesKernel { get; init; }

    /// <summary>Steps done.</summary>
    public long Step => adam.Steps;

    /// <summary>
    /// Decoder rows random on the unit sphere, the encoder their transpose, b_dec the sample's geometric median (Gao et al.
    /// 2024, section A.1).
    /// </summary>
    public static TopKAutoencoder Initialize(TopKRecipe recipe, Tensor sampleBD)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var generator = new Generator(recipe.Seed, CPU);
        var directionsFD = randn([recipe.Features, sampleBD.shape[1]], generator: generator).to(sampleBD.device);
        var W_dec = directionsFD / directionsFD.norm(1, keepdim: true);
        return new TopKAutoencoder(
            W_dec.clone().DetachFromDisposeScope(),
            zeros([recipe.Features], device: sampleBD.device).DetachFromDisposeScope(),
            W_dec.DetachFromDisposeScope(),
            GeometricMedian.Of(sampleBD).DetachFromDisposeScope(),
            recipe.K
        );
    }

    public StepMetrics TrainOneStep(Tensor xBD, double learningRate)
    {
        using var scope = NewDisposeScope();
        var result = UsesKernel ? KernelGradients(xBD) : PlainGradients(xBD);
        RemoveGradientAlongDecoderRows();
        double norm = adam.ClipGradients(recipe.GradientClip);
        adam.Step(learningRate);
        NormalizeDecoderRows();
        using var none = no_grad();
        fireCountsF.add_(result.FireCountsF);
        countedTokens.add_(xBD.shape[0]);
        return Measure(result, xBD, norm);
    }

    /// <summary>Everything a checkpoint holds, by name.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State() =>
        [
            .. Parameters(),
            .. adam.State(),
            ("tokens_since_fired", tokensSinceFiredF),
            ("fire_counts", fireCountsF),
            ("counted_tokens", countedTokens),
        ];

    public void Restore(Func<string, Tensor> load, long step)
    {
        using var none = no_grad();
        foreach (var (name, value) in State())
        {
            using var saved = load(name);
            value.copy_(saved);
        }
        adam.Steps = step;
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
        kernel?.Dispose();
        foreach (var (_, value) in State())
        {
            value.Dispose();
        }
    }

    private IEnumerable<(string Name, Tensor Value)> Parameters() =>
        [("W_enc", Sae.W_enc), ("b_enc", Sae.b_enc), ("W_dec", Sae.W_dec), ("b_dec", Sae.b_dec)];

    /// <summary>Losses and gradients by autograd, on any device and in any floating-point type.</summary>
    private BatchResult PlainGradients(Tensor xBD)
    {
        var losses = TopKLoss.Of(Sae, xBD, recipe.AuxCoefficient, recipe.AuxK, CountAndFindDead(xBD));
        losses.Total.backward();
        using var none = no_grad();
        var firedBF = losses.DenseBF > 0;
        return new BatchResult(
            losses.Reconstruction.to(float64).item<double>(),
            losses.Aux.to(float64).item<double>(),
            losses.ErrorBD,
            firedBF.sum(dim: 0),
            firedBF.sum().item<long>()
        );
    }

    /// <summary>The same by hand for float32 on the CPU; AuxK touches dead latents alone and stays with autograd.</summary>
    private BatchResult KernelGradients(Tensor xBD)
    {
        if (kernel is null || kernel.Batch != xBD.shape[0])
        {
            kernel?.Dispose();
            kernel = new TopKCpuGradients(Sae, (int)xBD.shape[0]);
        }
        kernel.Add(xBD);
        var residualBD = kernel.ResidualBD();
        var fireCountsF = kernel.FireCountsF();
        var deadF = CountAndFindDead(xBD)(fireCountsF > 0);
        double auxLoss = 0;
        if (recipe.AuxCoefficient > 0)
        {
            var aux = TopKLoss.AuxK(Sae, xBD, residualBD, recipe.AuxK, deadF);
            auxLoss = aux.to(float64).item<double>();
            if (aux.requires_grad)
            {
                (recipe.AuxCoefficient * aux).backward();
            }
        }
        return new BatchResult(kernel.Reconstruction, auxLoss, residualBD, fireCountsF, kernel.Kept);
    }

    private Func<Tensor, Tensor> CountAndFindDead(Tensor xBD) =>
        firedF =>
        {
            using var none = no_grad();
            tokensSinceFiredF.add_(xBD.shape[0]).masked_fill_(firedF, 0);
            return tokensSinceFiredF >= recipe.DeadAfter;
        };

    /// <summary>The norm is fixed, so a step along a row would only be undone.</summary>
    private void RemoveGradientAlongDecoderRows()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var unitFD = Sae.W_dec / (Sae.W_dec.norm(1, keepdim: true) + 1e-6);
        var gradientFD = Sae.W_dec.grad!;
        gradientFD.sub_((gradientFD * unitFD).sum(-1, keepdim: true) * unitFD);
    }

    private void NormalizeDecoderRows()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        double epsilon = finfo(Sae.W_dec.dtype).eps; // keeps a division by a zero norm finite
        Sae.W_dec.div_(Sae.W_dec.norm(1, keepdim: true) + epsilon);
    }

    private StepMetrics Measure(BatchResult result, Tensor xBD, double norm)
    {
        var variance = (xBD - xBD.mean([0], keepdim: true)).square().sum(float64);
        return new StepMetrics(
            result.Reconstruction + (recipe.AuxCoefficient * result.Aux),
            result.Reconstruction,
            result.Aux,
            (result.ResidualBD.square().sum(float64) / variance).item<double>(),
            result.Kept / (double)xBD.shape[0],
            (tokensSinceFiredF >= recipe.DeadAfter).sum().item<long>(),
            norm
        );
    }

    private sealed record BatchResult(
        double Reconstruction,
        double Aux,
        Tensor ResidualBD,
        Tensor FireCountsF,
        long Kept
    );
}
