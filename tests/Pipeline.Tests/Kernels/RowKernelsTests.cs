using System.Runtime.Intrinsics;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Kernels;

/// <summary>Norms and activations of a row against their formulas in double precision and against libtorch.</summary>
public sealed unsafe class RowKernelsTests
{
    private const float Epsilon = 1e-5f;
    private const float Guard = 12345;

    public RowKernelsTests() =>
        Assert.SkipUnless(
            Vector512.IsHardwareAccelerated,
            "This processor has no 512-bit vectors; tensors do the work."
        );

    private static readonly bool[] Gated = [false, true];
    private static readonly float[] NotOrdinary =
    [
        0,
        -0f,
        1e4f,
        1e20f,
        float.NaN,
        float.PositiveInfinity,
        float.NegativeInfinity,
    ];

    /// <summary>Widths on both sides of one and two vectors.</summary>
    public static TheoryData<int> Widths => [1, 15, 16, 17, 31, 32, 33, 100];

    public static TheoryData<ActivationKind, bool> Activations =>
        [.. from activation in Enum.GetValues<ActivationKind>() from gated in Gated select (activation, gated)];

    public static TheoryData<NormKind, float> WhatIsNotOrdinary =>
        [.. from kind in Enum.GetValues<NormKind>() from value in NotOrdinary select (kind, value)];

    [Theory]
    [MemberData(nameof(Widths))]
    public void Rms_norm_is_that_of_doubles(int width)
    {
        float[] x = Normal(width, seed: 1);
        float[] weight = Normal(width, seed: 2);
        double factor = 1 / Math.Sqrt(x.Average(v => (double)v * v) + Epsilon);

        float[] y = Normed(NormKind.RmsNorm, x, weight, weight, inPlace: false);

        Largest(y, i => x[i] * factor * weight[i]).Should().BeLessThan(1e-6);
        Normed(NormKind.RmsNorm, x, weight, weight, inPlace: true).Should().Equal(y);
    }

    /// <summary>Far from zero too, where the variance is small beside the squares.</summary>
    [Theory]
    [MemberData(nameof(Widths))]
    public void Layer_norm_is_that_of_doubles(int width)
    {
        foreach (var (center, tolerance) in new[] { (0f, 2e-6), (1000f, 1e-3) })
        {
            float[] x = [.. Normal(width, seed: 3).Select(v => v + center)];
            float[] weight = Normal(width, seed: 4);
            float[] bias = Normal(width, seed: 5);
            double mean = x.Average(v => (double)v);
            double factor = 1 / Math.Sqrt(x.Average(v => (v - mean) * (v - mean)) + Epsilon);

            float[] y = Normed(NormKind.LayerNorm, x, weight, bias, inPlace: false);

            Largest(y, i => ((x[i] - mean) * factor * weight[i]) + bias[i]).Should().BeLessThan(tolerance);
            Normed(NormKind.LayerNorm, x, weight, bias, inPlace: true).Should().Equal(y);
        }
    }

    /// <summary>One such value among others, and a row of nothing else.</summary>
    [Theory]
    [MemberData(nameof(WhatIsNotOrdinary))]
    public void Norms_of_what_is_not_ordinary_are_those_of_libtorch(NormKind kind, float value)
    {
        using var scope = NewDisposeScope();
        float[] others = Normal(37, seed: 6);
        float[] weight = Normal(37, seed: 7);
        float[] bias = Normal(37, seed: 8);
        float[] amongOthers = [.. others[..20], value, .. others[21..]];
        // The variance of nothing but 1e20 is made of rounding, here as there.
        float[][] rows = value == 1e20f ? [amongOthers] : [amongOthers, [.. Enumerable.Repeat(value, 37)]];
        foreach (float[] x in rows)
        {
            var xD = tensor(x);
            var expected =
                kind == NormKind.LayerNorm
                    ? nn.functional.layer_norm(xD, [37], tensor(weight), tensor(bias), Epsilon)
                    : xD * rsqrt(xD.square().mean([-1], keepdim: true) + Epsilon) * tensor(weight);

            var actual = tensor(Normed(kind, x, weight, bias, inPlace: false));

            actual
                .allclose(expected, rtol: 1e-5, atol: 1e-5, equal_nan: true)
                .Should()
                .BeTrue(
                    $"[{string.Join(", ", CpuKernels.ToArray<float>(actual))}] is not [{string.Join(", ", CpuKernels.ToArray<float>(expected))}]"
                );
        }
    }

    [Theory]
    [MemberData(nameof(Activations))]
    public void An_activation_is_that_of_doubles(ActivationKind activation, bool gated)
    {
        foreach (int width in new[] { 1, 15, 16, 17, 33, 100, 2001 })
        {
            float[] x =
                width == 1 ? [-1.5f] : [.. Enumerable.Range(0, width).Select(i => (20f * i / (width - 1)) - 10)];
            float[]? up = gated ? Normal(width, seed: 9) : null;

            float[] y = Activated(activation, x, up);

            for (int i = 0; i < width; i++)
            {
                double expected = Activate(activation, x[i]) * (up?[i] ?? 1);
                double allowed = 3e-7 * Math.Max(1, Math.Abs(x[i])) * Math.Max(1, Math.Abs(up?[i] ?? 1));
                ((double)y[i]).Should().BeApproximately(expected, allowed, $"{activation} of {x[i]}");
            }
        }
    }

    /// <summary>Every value in vectors and in what is left of them. Where libtorch has no number neither has the kernel.</summary>
    [Theory]
    [MemberData(nameof(Activations))]
    public void An_activation_of_what_is_not_ordinary_is_that_of_libtorch(ActivationKind activation, bool gated)
    {
        using var scope = NewDisposeScope();
        float[] values =
        [
            0,
            -0f,
            1e-30f,
            -1e-30f,
            20,
            -20,
            -80,
            -88,
            -88.3f,
            -88.4f,
            -88.7f,
            -88.8f,
            100,
            -100,
            -1000,
            1e20f,
            -1e20f,
            1e38f, // of twice as much libtorch's GELU is infinite
            -1e38f,
            float.MinValue,
            float.NaN,
            float.PositiveInfinity,
            float.NegativeInfinity,
        ];
        foreach (float value in values)
        {
            float[] x = [.. Enumerable.Repeat(value, 21)];
            float[]? up = gated ? [.. Enumerable.Repeat(0.5f, 21)] : null;
            var active = activation switch
            {
                ActivationKind.GeluTanh => nn.functional.gelu(tensor(x), TorchSharp.Modules.GELU.Approximate.tanh),
                ActivationKind.GeluErf => nn.functional.gelu(tensor(x)),
                ActivationKind.Silu => nn.functional.silu(tensor(x)),
                _ => nn.functional.relu(tensor(x)),
            };
            float[] expected = CpuKernels.ToArray<float>(up is null ? active : active * tensor(up));

            float[] y = Activated(activation, x, up);

            for (int i = 0; i < y.Length; i++)
            {
                if (float.IsNaN(expected[i]))
                {
                    float.IsFinite(y[i]).Should().BeFalse($"{activation} of {value} is {y[i]}");
                }
                else if (float.IsInfinity(expected[i]))
                {
                    y[i].Should().Be(expected[i], $"{activation} of {value}");
                }
                else
                {
                    float allowed = 1e-6f * Math.Max(1, Math.Abs(expected[i]));
                    y[i].Should().BeApproximately(expected[i], allowed, $"{activation} of {value}");
                }
            }
        }
    }

    [Theory]
    [MemberData(nameof(Widths))]
    public void A_row_is_added_to_another(int width)
    {
        float[] x = Normal(width, seed: 10);
        float[] y = Normal(width, seed: 11);
        float[] sums = [.. y, Guard];

        fixed (
            float* source = x,
                target = sums
        )
        {
            RowKernels.Add(source, target, width);
        }

        sums.Should().Equal([.. x.Zip(y, (a, b) => a + b), Guard]);
    }

    private static double Activate(ActivationKind activation, double x) =>
        activation switch
        {
            ActivationKind.GeluTanh => 0.5 * x * (1 + Math.Tanh(Math.Sqrt(2 / Math.PI) * (x + (0.044715 * x * x * x)))),
            ActivationKind.GeluErf => 0.5 * x * (1 + Erf(x / Math.Sqrt(2))),
            ActivationKind.Silu => x / (1 + Math.Exp(-x)),
            _ => Math.Max(x, 0),
        };

    /// <summary>2/sqrt(pi) e^-z² times the sum over n of 2^n z^(2n+1) / (1 x 3 x .. x (2n+1)), whose terms are all of one sign.</summary>
    private static double Erf(double z)
    {
        double term = z;
        double sum = term;
        for (int n = 1; Math.Abs(term) > 1e-17 * Math.Abs(sum); n++)
        {
            term *= 2 * z * z / ((2 * n) + 1);
            sum += term;
        }
        return 2 / Math.Sqrt(Math.PI) * Math.Exp(-z * z) * sum;
    }

    /// <summary>A norm of a row, with a guard behind it.</summary>
    private static float[] Normed(NormKind kind, float[] x, float[] weight, float[] bias, bool inPlace)
    {
        int width = x.Length;
        float[] y = [.. inPlace ? x : new float[width], Guard];
        fixed (
            float* from = x,
                to = y,
                w = weight,
                b = bias
        )
        {
            float* source = inPlace ? to : from;
            if (kind == NormKind.RmsNorm)
            {
                RowKernels.RmsNorm(source, w, to, width, Epsilon);
            }
            else
            {
                RowKernels.LayerNorm(source, w, b, to, width, Epsilon);
            }
        }
        y[width].Should().Be(Guard);
        return y[..width];
    }

    private static float[] Activated(ActivationKind activation, float[] x, float[]? up)
    {
        float[] y = [.. x, Guard];
        fixed (
            float* row = y,
                by = up
        )
        {
            RowKernels.Activate(activation, row, by, x.Length);
        }
        y[x.Length].Should().Be(Guard);
        return y[..x.Length];
    }

    private static double Largest(float[] actual, Func<int, double> expected) =>
        actual.Select((value, i) => Math.Abs(value - expected(i))).Max();

    private static float[] Normal(int width, ulong seed)
    {
        var random = new Xoshiro256(seed);
        return [.. Enumerable.Range(0, width).Select(_ => (float)random.NextGaussian())];
    }
}
