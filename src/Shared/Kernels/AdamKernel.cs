using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>What one step of Adam (Kingma and Ba 2015) needs beside the values.</summary>
/// <param name="Beta1">β1.</param>
/// <param name="Beta2">β2.</param>
/// <param name="StepSize">Learning rate over the first moment's bias correction, 1 - β1^t.</param>
/// <param name="RootCorrection">1 / √(1 - β2^t).</param>
/// <param name="Epsilon">Added to the root.</param>
/// <param name="GradientScale">What gradients are multiplied by first: clipping.</param>
public readonly record struct AdamFactors(
    float Beta1,
    float Beta2,
    float StepSize,
    float RootCorrection,
    float Epsilon,
    float GradientScale
)
{
    /// <param name="learningRate">Of this step.</param>
    /// <param name="beta1">β1.</param>
    /// <param name="beta2">β2.</param>
    /// <param name="epsilon">ε.</param>
    /// <param name="step">t, from 1.</param>
    /// <param name="gradientScale">What gradients are multiplied by first.</param>
    public static AdamFactors Of(
        double learningRate,
        double beta1,
        double beta2,
        double epsilon,
        long step,
        double gradientScale
    ) =>
        new(
            (float)beta1,
            (float)beta2,
            (float)(learningRate / (1 - Math.Pow(beta1, step))),
            (float)(1 / Math.Sqrt(1 - Math.Pow(beta2, step))),
            (float)epsilon,
            (float)gradientScale
        );
}

/// <summary>Adam over a stretch of values in one pass: each array is read once, and written once.</summary>
public static class AdamKernel
{
    /// <param name="values">Parameters p; updated.</param>
    /// <param name="gradients">g, as long. What counts is scale (g - along p): see <paramref name="along"/>.</param>
    /// <param name="means">First moments; updated.</param>
    /// <param name="squares">Second moments; updated.</param>
    /// <param name="factors">The step's numbers.</param>
    /// <param name="along">Multiple of p taken from g before anything else: a unit row's gradient loses its component along the row.</param>
    /// <param name="width">Which form runs.</param>
    public static void Update(
        Span<float> values,
        ReadOnlySpan<float> gradients,
        Span<float> means,
        Span<float> squares,
        in AdamFactors factors,
        float along,
        SimdWidth width
    )
    {
        if (gradients.Length != values.Length || means.Length != values.Length || squares.Length != values.Length)
        {
            throw new ArgumentException($"Lengths differ from {values.Length}.");
        }
        ref float p = ref MemoryMarshal.GetReference(values);
        ref float g = ref MemoryMarshal.GetReference(gradients);
        ref float m = ref MemoryMarshal.GetReference(means);
        ref float v = ref MemoryMarshal.GetReference(squares);
        int done = width switch
        {
            SimdWidth.Vector512 => Update512(ref p, ref g, ref m, ref v, values.Length, factors, along),
            SimdWidth.Vector256 => Update256(ref p, ref g, ref m, ref v, values.Length, factors, along),
            _ => 0,
        };
        for (int i = done; i < values.Length; i++)
        {
            float gradient = factors.GradientScale * (gradients[i] - (along * values[i]));
            means[i] += (1 - factors.Beta1) * (gradient - means[i]);
            squares[i] = (factors.Beta2 * squares[i]) + ((1 - factors.Beta2) * gradient * gradient);
            float root = (MathF.Sqrt(squares[i]) * factors.RootCorrection) + factors.Epsilon;
            values[i] -= factors.StepSize * means[i] / root;
        }
    }

    /// <summary><see cref="Update"/> where the gradient is 0 throughout.</summary>
    public static void Coast(
        Span<float> values,
        Span<float> means,
        Span<float> squares,
        in AdamFactors factors,
        SimdWidth width
    )
    {
        if (means.Length != values.Length || squares.Length != values.Length)
        {
            throw new ArgumentException($"Lengths differ from {values.Length}.");
        }
        ref float p = ref MemoryMarshal.GetReference(values);
        ref float m = ref MemoryMarshal.GetReference(means);
        ref float v = ref MemoryMarshal.GetReference(squares);
        int done = width switch
        {
            SimdWidth.Vector512 => Coast512(ref p, ref m, ref v, values.Length, factors),
            SimdWidth.Vector256 => Coast256(ref p, ref m, ref v, values.Length, factors),
            _ => 0,
        };
        for (int i = done; i < values.Length; i++)
        {
            means[i] -= (1 - factors.Beta1) * means[i];
            squares[i] *= factors.Beta2;
            float root = (MathF.Sqrt(squares[i]) * factors.RootCorrection) + factors.Epsilon;
            values[i] -= factors.StepSize * means[i] / root;
        }
    }

    private static int Update512(
        ref float p,
        ref float g,
        ref float m,
        ref float v,
        int length,
        in AdamFactors factors,
        float along
    )
    {
        var gained = Vector512.Create(1 - factors.Beta1);
        var kept = Vector512.Create(factors.Beta2);
        var gainedSquare = Vector512.Create(1 - factors.Beta2);
        var scale = Vector512.Create(factors.GradientScale);
        var alongRow = Vector512.Create(-along);
        int i = 0;
        for (; i <= length - Vector512<float>.Count; i += Vector512<float>.Count)
        {
            var value = Vector512.LoadUnsafe(ref p, (nuint)i);
            var gradient = scale * Vector512.FusedMultiplyAdd(alongRow, value, Vector512.LoadUnsafe(ref g, (nuint)i));
            var mean = Vector512.LoadUnsafe(ref m, (nuint)i);
            mean = Vector512.FusedMultiplyAdd(gained, gradient - mean, mean);
            var square = kept * Vector512.LoadUnsafe(ref v, (nuint)i);
            square = Vector512.FusedMultiplyAdd(gainedSquare * gradient, gradient, square);
            mean.StoreUnsafe(ref m, (nuint)i);
            square.StoreUnsafe(ref v, (nuint)i);
            Moved512(value, mean, square, factors).StoreUnsafe(ref p, (nuint)i);
        }
        return i;
    }

    private static int Update256(
        ref float p,
        ref float g,
        ref float m,
        ref float v,
        int length,
        in AdamFactors factors,
        float along
    )
    {
        var gained = Vector256.Create(1 - factors.Beta1);
        var kept = Vector256.Create(factors.Beta2);
        var gainedSquare = Vector256.Create(1 - factors.Beta2);
        var scale = Vector256.Create(factors.GradientScale);
        var alongRow = Vector256.Create(-along);
        int i = 0;
        for (; i <= length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            var value = Vector256.LoadUnsafe(ref p, (nuint)i);
            var gradient = scale * Vector256.FusedMultiplyAdd(alongRow, value, Vector256.LoadUnsafe(ref g, (nuint)i));
            var mean = Vector256.LoadUnsafe(ref m, (nuint)i);
            mean = Vector256.FusedMultiplyAdd(gained, gradient - mean, mean);
            var square = kept * Vector256.LoadUnsafe(ref v, (nuint)i);
            square = Vector256.FusedMultiplyAdd(gainedSquare * gradient, gradient, square);
            mean.StoreUnsafe(ref m, (nuint)i);
            square.StoreUnsafe(ref v, (nuint)i);
            Moved256(value, mean, square, factors).StoreUnsafe(ref p, (nuint)i);
        }
        return i;
    }

    private static int Coast512(ref float p, ref float m, ref float v, int length, in AdamFactors factors)
    {
        var lost = Vector512.Create(factors.Beta1 - 1);
        var kept = Vector512.Create(factors.Beta2);
        int i = 0;
        for (; i <= length - Vector512<float>.Count; i += Vector512<float>.Count)
        {
            var mean = Vector512.LoadUnsafe(ref m, (nuint)i);
            mean = Vector512.FusedMultiplyAdd(lost, mean, mean);
            var square = kept * Vector512.LoadUnsafe(ref v, (nuint)i);
            mean.StoreUnsafe(ref m, (nuint)i);
            square.StoreUnsafe(ref v, (nuint)i);
            Moved512(Vector512.LoadUnsafe(ref p, (nuint)i), mean, square, factors).StoreUnsafe(ref p, (nuint)i);
        }
        return i;
    }

    private static int Coast256(ref float p, ref float m, ref float v, int length, in AdamFactors factors)
    {
        var lost = Vector256.Create(factors.Beta1 - 1);
        var kept = Vector256.Create(factors.Beta2);
        int i = 0;
        for (; i <= length - Vector256<float>.Count; i += Vector256<float>.Count)
        {
            var mean = Vector256.LoadUnsafe(ref m, (nuint)i);
            mean = Vector256.FusedMultiplyAdd(lost, mean, mean);
            var square = kept * Vector256.LoadUnsafe(ref v, (nuint)i);
            mean.StoreUnsafe(ref m, (nuint)i);
            square.StoreUnsafe(ref v, (nuint)i);
            Moved256(Vector256.LoadUnsafe(ref p, (nuint)i), mean, square, factors).StoreUnsafe(ref p, (nuint)i);
        }
        return i;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Moved512(
        Vector512<float> value,
        Vector512<float> mean,
        Vector512<float> square,
        in AdamFactors factors
    )
    {
        var root = Vector512.FusedMultiplyAdd(
            Vector512.Sqrt(square),
            Vector512.Create(factors.RootCorrection),
            Vector512.Create(factors.Epsilon)
        );
        return value - (Vector512.Create(factors.StepSize) * mean / root);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Moved256(
        Vector256<float> value,
        Vector256<float> mean,
        Vector256<float> square,
        in AdamFactors factors
    )
    {
        var root = Vector256.FusedMultiplyAdd(
            Vector256.Sqrt(square),
            Vector256.Create(factors.RootCorrection),
            Vector256.Create(factors.Epsilon)
        );
        return value - (Vector256.Create(factors.StepSize) * mean / root);
    }
}
