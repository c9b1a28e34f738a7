using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// <see cref="PlainSaeOptimizer"/> for float32 on the CPU, latent by latent: what a latent's rows and moments are read for is
/// done while they are in cache, projection, clipping, Adam and norm. Latents fall to threads in any order; sums do not.
/// </summary>
internal sealed class CpuSaeOptimizer : SaeOptimizer
{
    private const double Epsilon = 1e-8;

    /// <summary>Keeps a division by a zero norm finite.</summary>
    private const float SmallestNorm = 1.1920929e-7f;
    private const int LatentsAtATime = 32;

    private readonly SaeRecipe recipe;
    private readonly Slot[] slots;
    private readonly Slot encoder;
    private readonly Slot decoder;
    private readonly int features;
    private readonly int width;
    private readonly RowGradients dense;

    public CpuSaeOptimizer(SaeLearner learner, SaeRecipe recipe)
    {
        this.recipe = recipe;
        slots = [.. learner.Parameters.Select(p => new Slot(p.Name, p.Value))];
        encoder = slots.Single(slot => ReferenceEquals(slot.Value, learner.Sae.W_enc));
        decoder = slots.Single(slot => ReferenceEquals(slot.Value, learner.Sae.W_dec));
        (features, width) = (learner.Sae.Features, learner.Sae.Width);
        dense = new RowGradients(features);
    }

    public override long Steps { get; set; }

    private double? ProjectionEpsilon => recipe.UnitDecoder ? recipe.ProjectionEpsilon : null;

    public override IEnumerable<(string Name, Tensor Value)> State() =>
        slots.SelectMany(slot =>
            new[] { ($"{slot.Name}.exp_avg", slot.Mean), ($"{slot.Name}.exp_avg_sq", slot.Square) }
        );

    public override void ForgetRows(string name, Tensor rowsN)
    {
        var slot = slots.Single(slot => slot.Name == name);
        slot.Mean.index_fill_(0, rowsN, 0);
        slot.Square.index_fill_(0, rowsN, 0);
    }

    public override double Step(double learningRate, RowGradients? rows)
    {
        Steps++;
        foreach (var slot in slots)
        {
            slot.FindGradient();
        }
        bool isDense = rows is null;
        rows ??= Measured();
        var others = slots.Where(slot => slot != encoder && slot != decoder).ToList();
        double norm = Math.Sqrt(
            rows.SquaredF.Sum() + others.Sum(slot => TensorPrimitives.SumOfSquares<float>(slot.AllGradients))
        );
        double clip = recipe.GradientClip > 0 && norm > recipe.GradientClip ? recipe.GradientClip / (norm + 1e-6) : 1;
        var factors = AdamFactors.Of(learningRate, recipe.Beta1, SaeRecipe.Beta2, Epsilon, Steps, clip);
        foreach (var slot in others)
        {
            slot.UpdateAll(factors);
        }
        ForEachLatent(f => UpdateRows(f, rows, factors));
        if (isDense)
        {
            Array.ForEach(slots, slot => slot.Value.grad!.zero_());
        }
        return norm;
    }

    private RowGradients Measured()
    {
        ForEachLatent(f =>
            dense.Measure(
                f,
                encoder.Gradients(f, width),
                decoder.Gradients(f, width),
                decoder.Values(f, width),
                ProjectionEpsilon
            )
        );
        return dense;
    }

    private void UpdateRows(int f, RowGradients rows, in AdamFactors factors)
    {
        bool isTouched = rows.TouchedF[f];
        Update(encoder, along: 0, factors);
        Update(decoder, rows.AlongF[f], factors);
        if (recipe.UnitDecoder)
        {
            var row = decoder.Values(f, width);
            TensorPrimitives.Divide(row, TensorPrimitives.Norm<float>(row) + SmallestNorm, row);
        }

        void Update(Slot slot, float along, in AdamFactors factors)
        {
            var values = slot.Values(f, width);
            var means = slot.Means(f, width);
            var squares = slot.Squares(f, width);
            if (isTouched)
            {
                AdamKernel.Update(values, slot.Gradients(f, width), means, squares, factors, along, Simd.Best);
            }
            else
            {
                AdamKernel.Coast(values, means, squares, factors, Simd.Best);
            }
        }
    }

    private void ForEachLatent(Action<int> action) => Pieces.Run(features, LatentsAtATime, get_num_threads(), action);

    /// <summary>A parameter with its gradient and moments, as tensors and as memory.</summary>
    private sealed unsafe class Slot(string name, Tensor value)
    {
        private readonly float* values = CpuKernels.Floats(value);
        private float* gradients;
        private float* means;
        private float* squares;

        public string Name => name;

        public Tensor Value => value;

        public Tensor Mean { get; } = zeros_like(value).DetachFromDisposeScope();

        public Tensor Square { get; } = zeros_like(value).DetachFromDisposeScope();

        public ReadOnlySpan<float> AllGradients => new(gradients, checked((int)value.numel()));

        public Span<float> Values(int row, int width) => new(values + ((long)row * width), width);

        public ReadOnlySpan<float> Gradients(int row, int width) => new(gradients + ((long)row * width), width);

        public Span<float> Means(int row, int width) => new(means + ((long)row * width), width);

        public Span<float> Squares(int row, int width) => new(squares + ((long)row * width), width);

        /// <summary>For what is not divided among latents.</summary>
        public void UpdateAll(in AdamFactors factors)
        {
            int length = checked((int)value.numel());
            AdamKernel.Update(
                Values(0, length),
                Gradients(0, length),
                Means(0, length),
                Squares(0, length),
                factors,
                along: 0,
                Simd.Best
            );
        }

        /// <summary>Autograd may have put the gradient anywhere.</summary>
        public void FindGradient()
        {
            if (!value.grad!.is_contiguous())
            {
                value.grad = value.grad.contiguous().DetachFromDisposeScope();
            }
            gradients = CpuKernels.Floats(value.grad);
            means = CpuKernels.Floats(Mean);
            squares = CpuKernels.Floats(Square);
        }
    }
}
