using System.Runtime.InteropServices;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train.Pretraining;

/// <summary>What a language model is trained with; see <c>PretrainConfig</c> for the meaning of each number.</summary>
internal sealed record LanguageModelRecipe
{
    public required ulong Seed { get; init; }

    /// <summary>T, tokens a context, of which T - 1 are predicted.</summary>
    public required int Context { get; init; }

    /// <summary>Contexts a step.</summary>
    public required int Batch { get; init; }
    public required long Steps { get; init; }
    public required double LearningRate { get; init; }
    public required double MinimumLearningRateFraction { get; init; }
    public required double WarmupFraction { get; init; }
    public required double WeightDecay { get; init; }
    public required double Beta1 { get; init; }
    public required double Beta2 { get; init; }
    public required double GradientClip { get; init; }

    /// <summary>Linear warm-up from 0, then a cosine down to the minimum: a pure function of the 0-based step.</summary>
    public double LearningRateAt(long step)
    {
        double warmup = Math.Max(1, WarmupFraction * Steps);
        if (step < warmup)
        {
            return LearningRate * (step + 1) / warmup;
        }
        double progress = (step - warmup) / Math.Max(1, Steps - warmup);
        double cosine = 0.5 * (1 + Math.Cos(Math.PI * Math.Min(1, progress)));
        return LearningRate * (MinimumLearningRateFraction + ((1 - MinimumLearningRateFraction) * cosine));
    }
}

/// <summary>
/// Next-token training of a <see cref="Transformer"/>: contexts in a seeded order -> cross-entropy -> clip -> AdamW. The
/// state after a step is the weights, the moments and the step number; nothing else decides what comes next.
/// </summary>
internal sealed class LanguageModelTrainer
{
    private readonly Transformer model;
    private readonly LanguageModelRecipe recipe;
    private readonly int[] tokens;
    private readonly Adam optimizer;
    private int[] order = [];
    private long orderEpoch = -1;

    /// <param name="model">Trained in place.</param>
    /// <param name="recipe">The numbers.</param>
    /// <param name="tokens">The whole training text, at least one context long.</param>
    public LanguageModelTrainer(Transformer model, LanguageModelRecipe recipe, int[] tokens)
    {
        (this.model, this.recipe, this.tokens) = (model, recipe, tokens);
        foreach (var (_, parameter) in model.Weights.Parameters())
        {
            parameter.requires_grad_(true);
        }
        optimizer = new Adam(model.Weights.Parameters(), recipe.Beta1, recipe.Beta2, recipe.WeightDecay);
    }

    /// <summary>Steps done.</summary>
    public long Step => optimizer.Steps;

    /// <summary>Non-overlapping contexts in the text.</summary>
    private int Contexts => tokens.Length / recipe.Context;

    /// <summary>Weights and moments by name, for a checkpoint.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State() =>
        [.. model.Weights.Parameters().Select(p => ($"model.{p.Name}", p.Value)), .. optimizer.State()];

    /// <summary>Copies a checkpoint's tensors into place.</summary>
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

    /// <summary>One step; returns the mean cross-entropy of its batch (nats a token) and the gradient norm.</summary>
    public (double Loss, double GradientNorm) TrainOneStep()
    {
        using var scope = NewDisposeScope();
        var tokensBT = tensor(NextBatch(), recipe.Batch, recipe.Context, dtype: int64);
        var loss = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT).mean();
        loss.backward();
        double norm = optimizer.ClipGradients(recipe.GradientClip);
        optimizer.Step(recipe.LearningRateAt(Step));
        return (loss.item<float>(), norm);
    }

    /// <summary>Mean cross-entropy (nats a token) over the first contexts of a text, without a gradient.</summary>
    public double Evaluate(int[] text, int maximumContexts)
    {
        using var none = no_grad();
        double sum = 0;
        long scored = 0;
        int contexts = Math.Min(maximumContexts, text.Length / recipe.Context);
        for (int first = 0; first < contexts; first += recipe.Batch)
        {
            using var scope = NewDisposeScope();
            int rows = Math.Min(recipe.Batch, contexts - first);
            var batch = new long[rows * recipe.Context];
            for (int row = 0; row < rows; row++)
            {
                CopyContext(text, first + row, batch, row);
            }
            var tokensBT = tensor(batch, rows, recipe.Context, dtype: int64);
            var losses = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT);
            sum += losses.sum(float64).item<double>();
            scored += losses.numel();
        }
        return sum / scored;
    }

    private long[] NextBatch()
    {
        var batch = new long[recipe.Batch * recipe.Context];
        for (int row = 0; row < recipe.Batch; row++)
        {
            long drawn = (Step * recipe.Batch) + row;
            CopyContext(tokens, ContextAt(drawn), batch, row);
        }
        return batch;
    }

    /// <summary>The context drawn n-th: a fresh seeded permutation each epoch.</summary>
    private int ContextAt(long drawn)
    {
        long epoch = drawn / Contexts;
        if (epoch != orderEpoch)
        {
            order = [.. Enumerable.Range(0, Contexts)];
            Shuffle(order, epoch);
            orderEpoch = epoch;
        }
        return order[drawn % Contexts];
    }

    private void Shuffle(Span<int> values, long epoch)
    {
        using var generator = new Generator(recipe.Seed + (ulong)epoch, CPU);
        using var permutation = randperm(values.Length, generator: generator);
        var shuffled = MemoryMarshal.Cast<byte, long>(permutation.bytes);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (int)shuffled[i];
        }
    }

    private void CopyContext(int[] text, int context, long[] batch, int row)
    {
        int from = context * recipe.Context;
        int to = row * recipe.Context;
        for (int i = 0; i < recipe.Context; i++)
        {
            batch[to + i] = text[from + i];
        }
    }
}
