using Pipeline.Evaluate.Scaling;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Scaling;

public class ScalingFitterTests
{
    /// <summary>As published for GPT-4; α, ζ and η of the same order.</summary>
    private static readonly ScalingLaw Known = new(-0.5, 0.26, -0.017, -0.042, -1.32, -0.085);

    private static readonly double[] Sizes = [2048, 8192, 32_768, 131_072, 524_288, 2_097_152];
    private static readonly double[] Sparsities = [8, 16, 32, 64, 128, 256, 512];

    [Fact]
    public void A_law_without_noise_is_found_exactly()
    {
        var fit = ScalingFitter.Fit(Points(noise: 0, seed: 1), seed: 1, resamples: 2);

        for (int c = 0; c < 6; c++)
        {
            fit.Law.Coefficients[c].Should().BeApproximately(Known.Coefficients[c], 1e-3, ScalingLaw.Names[c]);
        }
        fit.FitError.Should().BeLessThan(1e-6);
        fit.HeldOutError.Should().BeLessThan(1e-5);
        fit.HeldOutLatents.Should().Be(2_097_152);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Every_coefficient_of_a_known_law_lies_within_its_interval(int seed)
    {
        var fit = ScalingFitter.Fit(Points(noise: 0.003, (ulong)seed), (ulong)seed);

        for (int c = 0; c < 6; c++)
        {
            fit.Intervals[c].Low.Should().BeLessThan(fit.Intervals[c].High);
            Known.Coefficients[c].Should().BeInRange(fit.Intervals[c].Low, fit.Intervals[c].High, ScalingLaw.Names[c]);
            fit.Law.Coefficients[c].Should().BeInRange(fit.Intervals[c].Low, fit.Intervals[c].High);
        }
        fit.FitError.Should().BeInRange(0.001, 0.005);
        fit.HeldOutError.Should().BeLessThan(0.02);
    }

    [Fact]
    public void A_run_that_went_wrong_hardly_moves_the_law()
    {
        var points = Points(noise: 0, seed: 1);
        points[10] = points[10] with { Error = 2 * points[10].Error };

        var fit = ScalingFitter.Fit(points, seed: 1, resamples: 2);

        foreach (var point in points)
        {
            double wanted = Known.Error(point.Latents, point.K);
            Math.Abs(Math.Log(fit.Law.Error(point.Latents, point.K) / wanted)).Should().BeLessThan(0.01);
        }
    }

    [Fact]
    public void The_same_seed_gives_the_same_intervals()
    {
        var points = Points(noise: 0.003, seed: 4);

        var first = ScalingFitter.Fit(points, seed: 9, resamples: 10);

        ScalingFitter.Fit(points, seed: 9, resamples: 10).Intervals.Should().Equal(first.Intervals);
        ScalingFitter.Fit(points, seed: 8, resamples: 10).Intervals.Should().NotEqual(first.Intervals);
    }

    [Fact]
    public void Too_small_a_grid_and_an_impossible_error_are_refused()
    {
        var points = Points(noise: 0, seed: 1);

        ((Action)(() => ScalingFitter.Fit([.. points.Where(p => p.Latents < 100_000)], 1)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*3 sizes and 7 sparsities*at least 4*");
        points[3] = points[3] with { Error = 0 };
        ((Action)(() => ScalingFitter.Fit(points, 1)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*n = 2048, k = 64*error of 0*");
    }

    private static List<ScalingPoint> Points(double noise, ulong seed)
    {
        var random = new Xoshiro256(seed);
        return
        [
            .. Sizes.SelectMany(n =>
                Sparsities.Select(k => new ScalingPoint(
                    n,
                    k,
                    Known.Error(n, k) * Math.Exp(noise * random.NextGaussian())
                ))
            ),
        ];
    }
}
