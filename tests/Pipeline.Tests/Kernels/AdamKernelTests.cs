using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class AdamKernelTests
{
    private static readonly AdamFactors Factors = AdamFactors.Of(1e-2, 0.9, 0.999, 1e-8, step: 3, gradientScale: 0.5);

    public static TheoryData<SimdWidth, int> Forms()
    {
        var forms = new TheoryData<SimdWidth, int>();
        foreach (var width in Enum.GetValues<SimdWidth>())
        {
            foreach (int length in new[] { 0, 1, 7, 8, 15, 16, 17, 31, 64, 100 })
            {
                forms.Add(width, length);
            }
        }
        return forms;
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void Every_form_is_the_formula(SimdWidth width, int length)
    {
        const double Along = 0.3;
        var (p, g, m, v) = (Values(length, 1), Values(length, 2), Values(length, 3), Values(length, 4));
        v = [.. v.Select(MathF.Abs)];
        var expected = Enumerable
            .Range(0, length)
            .Select(i =>
            {
                double gradient = 0.5 * (g[i] - (Along * p[i]));
                double mean = (0.9 * m[i]) + (0.1 * gradient);
                double square = (0.999 * v[i]) + (0.001 * gradient * gradient);
                double root = Math.Sqrt(square / (1 - Math.Pow(0.999, 3))) + 1e-8;
                return (Value: p[i] - (1e-2 / (1 - Math.Pow(0.9, 3)) * mean / root), Mean: mean, Square: square);
            })
            .ToList();

        AdamKernel.Update(p, g, m, v, Factors, (float)Along, width);

        Near(p, expected.Select(e => e.Value));
        Near(m, expected.Select(e => e.Mean));
        Near(v, expected.Select(e => e.Square));
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void Coasting_is_an_update_without_gradient(SimdWidth width, int length)
    {
        var (p, m, v) = (Values(length, 1), Values(length, 3), Values(length, 4).Select(MathF.Abs).ToArray());
        float[] p2 = [.. p];
        float[] m2 = [.. m];
        float[] v2 = [.. v];

        AdamKernel.Coast(p, m, v, Factors, width);
        AdamKernel.Update(p2, new float[length], m2, v2, Factors, along: 0, SimdWidth.Scalar);

        Near(p, p2.Select(value => (double)value));
        Near(m, m2.Select(value => (double)value));
        Near(v, v2.Select(value => (double)value));
    }

    [Fact]
    public void Arrays_of_other_lengths_are_refused() =>
        FluentActions
            .Invoking(() =>
                AdamKernel.Update(new float[3], new float[2], new float[3], new float[3], Factors, 0, SimdWidth.Scalar)
            )
            .Should()
            .Throw<ArgumentException>();

    private static float[] Values(int length, int seed) =>
        [.. Enumerable.Range(0, length).Select(i => MathF.Sin((seed * 17) + (i * 1.7f)))];

    private static void Near(float[] actual, IEnumerable<double> expected)
    {
        foreach (var (a, e) in actual.Zip(expected))
        {
            ((double)a).Should().BeApproximately(e, 1e-6 * Math.Max(1, Math.Abs(e)));
        }
    }
}
