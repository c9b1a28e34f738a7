using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Pipeline.Shared.Models;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// What a forward pass does to a row between its matrix products, with 512-bit vectors. Their plain twins are the tensor
/// operations in <see cref="TensorForward"/>.
/// </summary>
internal static unsafe class RowKernels
{
    private const int Lanes = 16;

    /// <summary>y = x / sqrt(mean square + epsilon) x weight; y may be x.</summary>
    public static void RmsNorm(float* x, float* weight, float* y, int width, float epsilon)
    {
        float factor = 1 / MathF.Sqrt((SquaredDistance(x, width, 0) / width) + epsilon);
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            (Vector512.Load(x + i) * Vector512.Create(factor) * Vector512.Load(weight + i)).Store(y + i);
        }
        for (; i < width; i++)
        {
            y[i] = x[i] * factor * weight[i];
        }
    }

    /// <summary>y = (x - mean) / sqrt(variance + epsilon) x weight + bias; y may be x.</summary>
    public static void LayerNorm(float* x, float* weight, float* bias, float* y, int width, float epsilon)
    {
        float mean = Sum(x, width) / width;
        float factor = 1 / MathF.Sqrt((SquaredDistance(x, width, mean) / width) + epsilon);
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            var normed = (Vector512.Load(x + i) - Vector512.Create(mean)) * Vector512.Create(factor);
            Vector512.FusedMultiplyAdd(normed, Vector512.Load(weight + i), Vector512.Load(bias + i)).Store(y + i);
        }
        for (; i < width; i++)
        {
            y[i] = MathF.FusedMultiplyAdd((x[i] - mean) * factor, weight[i], bias[i]);
        }
    }

    /// <summary>y += x.</summary>
    public static void Add(float* x, float* y, int width)
    {
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            (Vector512.Load(y + i) + Vector512.Load(x + i)).Store(y + i);
        }
        for (; i < width; i++)
        {
            y[i] += x[i];
        }
    }

    /// <summary>x becomes activation(x), times <paramref name="up"/> where that is not null.</summary>
    public static void Activate(ActivationKind activation, float* x, float* up, int width)
    {
        switch (activation)
        {
            case ActivationKind.GeluTanh:
                Activate<GeluTanh>(x, up, width);
                break;
            case ActivationKind.GeluErf:
                Activate<GeluErf>(x, up, width);
                break;
            case ActivationKind.Silu:
                Activate<Silu>(x, up, width);
                break;
            case ActivationKind.Relu:
                Activate<Relu>(x, up, width);
                break;
            default:
                throw new InvalidOperationException($"no activation {activation}");
        }
    }

    private static void Activate<TActivation>(float* x, float* up, int width)
        where TActivation : struct, IActivation
    {
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            var active = TActivation.Of(Vector512.Load(x + i));
            (up == null ? active : active * Vector512.Load(up + i)).Store(x + i);
        }
        for (; i < width; i++)
        {
            float active = TActivation.Of(Vector512.CreateScalar(x[i])).ToScalar();
            x[i] = up == null ? active : active * up[i];
        }
    }

    private static float Sum(float* x, int width)
    {
        var sums = Vector512<float>.Zero;
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            sums += Vector512.Load(x + i);
        }
        float sum = Vector512.Sum(sums);
        for (; i < width; i++)
        {
            sum += x[i];
        }
        return sum;
    }

    /// <summary>The sum of (x - center)².</summary>
    private static float SquaredDistance(float* x, int width, float center)
    {
        var (even, odd) = (Vector512<float>.Zero, Vector512<float>.Zero);
        int i = 0;
        for (; i <= width - (2 * Lanes); i += 2 * Lanes)
        {
            var a = Vector512.Load(x + i) - Vector512.Create(center);
            var b = Vector512.Load(x + i + Lanes) - Vector512.Create(center);
            even = Vector512.FusedMultiplyAdd(a, a, even);
            odd = Vector512.FusedMultiplyAdd(b, b, odd);
        }
        float squares = Vector512.Sum(even + odd);
        for (; i < width; i++)
        {
            squares += (x[i] - center) * (x[i] - center);
        }
        return squares;
    }

    private interface IActivation
    {
        static abstract Vector512<float> Of(Vector512<float> x);
    }

    /// <summary>x / (1 + e^-x).</summary>
    private readonly struct Silu : IActivation
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Of(Vector512<float> x) => x * FastExp.Sigmoid(x);
    }

    /// <summary>max(x, 0); NaN stays NaN.</summary>
    private readonly struct Relu : IActivation
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Of(Vector512<float> x) => Vector512.Max(x, Vector512<float>.Zero);
    }

    /// <summary>0.5 x (1 + tanh u), which is x / (1 + e^-2u).</summary>
    private readonly struct GeluTanh : IActivation
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Of(Vector512<float> x)
        {
            const float RootTwoOverPi = 0.797884561f;
            var inner = Vector512.FusedMultiplyAdd(
                x * x,
                Vector512.Create(2 * RootTwoOverPi * 0.044715f),
                Vector512.Create(2 * RootTwoOverPi)
            );
            return x * FastExp.Sigmoid(x * inner);
        }
    }

    /// <summary>x times the normal distribution's Φ(x), which is right to 1e-7.</summary>
    private readonly struct GeluErf : IActivation
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<float> Of(Vector512<float> x)
        {
            const float RootHalf = 0.707106781f;
            var z = Vector512.Abs(x) * Vector512.Create(RootHalf);
            var t = Vector512<float>.One / Vector512.FusedMultiplyAdd(z, Vector512.Create(0.3f), Vector512<float>.One);
            // erfc(z) e^(z²) / t, a Chebyshev fit over z from 0 to 10 whose error is 2.1e-8.
            var p = Vector512.Create(-0.1307708773f);
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.4919342706f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(-0.5261516628f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.5645142422f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(-0.1069833625f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.2205391691f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.1467960222f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.1709491199f));
            p = Vector512.FusedMultiplyAdd(p, t, Vector512.Create(0.1691730577f));
            var tail = FastExp.Exp2(z * z * Vector512.Create(-FastExp.Log2E)) * p * t * Vector512.Create(0.5f);
            var negative = Vector512.LessThan(x, Vector512<float>.Zero);
            return x * Vector512.ConditionalSelect(negative, tail, Vector512<float>.One - tail);
        }
    }
}
