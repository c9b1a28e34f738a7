using Pipeline.Evaluate.Scaling;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Scaling;

public class ScalingFitterTests
{
    /// <summary>The slopes published for GPT-4; α, ζ and η such that both terms matter.</summary>
    private static readonly ScalingLaw Known = new(-0.5, 0.26, -0.017, -0.042, -1.32, -0.085);

    /// <summary>
    /// Of a small model, where k matters more: what a 4 x 4 grid is drawn from. The second term is small in it, as measured.
    /// </summary>
    private static readonly ScalingLaw Small = new(1.2, -0.12, -0.2, -0.03, -4.5, -0.3);

    private static readonly double[] SmallSizes = [512, 1024, 2048, 4096];
    private static readonly double[] SmallSparsities = [8, 16, 32, 64];
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
        fit.HeldOut.Should().HaveCount(7).And.OnlyContain(point => point.Latents == 2_097_152);
        fit.HeldOut.Select(point => point.K).Should().Equal(Sparsities);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void Every_coefficient_of_a_known_law_lies_within_its_interval(int seed)
    {
        // Half of each width that half a per cent of noise may leave, so that no interval holds the coefficient by being wide.
        double[] widest = [0.9, 0.3, 0.06, 0.02, 0.7, 0.2];

        var fit = ScalingFitter.Fit(Points(noise: 0.003, (ulong)seed), (ulong)seed, resamples: 100);

        for (int c = 0; c < 6; c++)
        {
            fit.Intervals[c].Low.Should().BeLessThan(fit.Intervals[c].High);
            (fit.Intervals[c].High - fit.Intervals[c].Low).Should().BeLessThan(widest[c], ScalingLaw.Names[c]);
            Known.Coefficients[c].Should().BeInRange(fit.Intervals[c].Low, fit.Intervals[c].High, ScalingLaw.Names[c]);
            fit.Law.Coefficients[c].Should().BeInRange(fit.Intervals[c].Low, fit.Intervals[c].High);
        }
        fit.FitError.Should().BeInRange(0.001, 0.005);
        fit.HeldOutError.Should().BeLessThan(0.02);
    }

    [Fact]
    public void Intervals_widen_with_the_noise()
    {
        var quiet = ScalingFitter.Fit(Points(noise: 0.001, seed: 5), seed: 5, resamples: 40);
        var loud = ScalingFitter.Fit(Points(noise: 0.01, seed: 5), seed: 5, resamples: 40);

        for (int c = 0; c < 6; c++)
        {
            (loud.Intervals[c].High - loud.Intervals[c].Low)
                .Should()
                .BeGreaterThan(2 * (quiet.Intervals[c].High - quiet.Intervals[c].Low), ScalingLaw.Names[c]);
        }
    }

    [Fact]
    public void The_smallest_grid_there_may_be_predicts_the_size_it_has_not_seen()
    {
        var random = new Xoshiro256(11);
        List<ScalingPoint> points =
        [
            .. SmallSizes.SelectMany(n =>
                SmallSparsities.Select(k => new ScalingPoint(
                    n,
                    k,
                    Small.Error(n, k) * Math.Exp(0.003 * random.NextGaussian())
                ))
            ),
        ];

        var fit = ScalingFitter.Fit(points, seed: 11, resamples: 40);

        fit.FitError.Should().BeLessThan(0.005);
        fit.HeldOutError.Should().BeInRange(1e-6, 0.05);
        fit.HeldOut.Select(point => point.K).Should().Equal(SmallSparsities);
    }

    /// <summary>Errors that tell some coefficients nothing, or obey no law.</summary>
    public static TheoryData<string, Func<double, double, double, double>> Unruly =>
        new()
        {
            { "all the same", (_, _, _) => 0.1 },
            { "of n alone", (n, _, _) => Math.Pow(n, -0.3) },
            { "of k alone", (_, k, _) => Math.Pow(k, -0.5) },
            { "without a second term", (n, k, _) => Math.Pow(n, -0.2) * Math.Pow(k, -0.4) },
            { "rising with n", (n, k, _) => Math.Pow(n, 0.1) * Math.Pow(k, -0.4) / 10 },
            { "noise alone", (_, _, noise) => Math.Exp(noise) },
            { "noise over fourteen decades", (_, _, noise) => Math.Exp(10 * noise) },
        };

    [Theory]
    [MemberData(nameof(Unruly), DisableDiscoveryEnumeration = true)]
    public void Whatever_the_errors_are_every_figure_is_a_number(
        string name,
        Func<double, double, double, double> error
    )
    {
        var random = new Xoshiro256(21);
        List<ScalingPoint> points =
        [
            .. SmallSizes.SelectMany(n =>
                SmallSparsities.Select(k => new ScalingPoint(n, k, error(n, k, random.NextGaussian())))
            ),
        ];

        var fit = ScalingFitter.Fit(points, seed: 1, resamples: 40);

        double[] figures = [.. fit.Law.Coefficients, .. fit.LawOfOthers.Coefficients, fit.FitError, fit.HeldOutError];
        figures.Should().OnlyContain(figure => double.IsFinite(figure), name);
        fit.Intervals.Should().OnlyContain(i => double.IsFinite(i.Low) && double.IsFinite(i.High), name);
    }

    [Fact]
    public void A_second_term_that_is_not_there_shows_in_its_interval()
    {
        var random = new Xoshiro256(12);
        List<ScalingPoint> points =
        [
            .. SmallSizes.SelectMany(n =>
                SmallSparsities.Select(k => new ScalingPoint(
                    n,
                    k,
                    Math.Pow(n, -0.2) * Math.Pow(k, -0.4) * Math.Exp(0.003 * random.NextGaussian())
                ))
            ),
        ];

        var fit = ScalingFitter.Fit(points, seed: 12, resamples: 60);

        fit.FitError.Should().BeLessThan(0.005);
        // At k = 1 such a term may be anything from far below the least error on.
        fit.Intervals[4].Low.Should().BeLessThan(Math.Log(points.Min(p => p.Error)) - 5);
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
    public void It_tells_of_every_resample_and_ends_where_it_is_told_to()
    {
        var points = Points(noise: 0.003, seed: 4);
        List<int> told = [];

        ScalingFitter.Fit(points, seed: 9, resamples: 3, told.Add);
        var stopped = () => ScalingFitter.Fit(points, 9, 3, _ => throw new RunInterruptedException("now"));

        told.Should().Equal(1, 2, 3);
        stopped.Should().Throw<RunInterruptedException>();
    }

    [Fact]
    public void The_published_law_goes_through_the_middle_of_the_points()
    {
        var points = Points(noise: 0, seed: 1);

        var published = ScalingLaw.PublishedThrough(points);

        (published.BetaK, published.BetaN, published.Gamma).Should().Be((0.26, -0.017, -0.042));
        points
            .Average(p => Math.Log(p.Error) - Math.Log(published.Error(p.Latents, p.K)))
            .Should()
            .BeApproximately(0, 1e-12);
        published.DistanceFrom(points).Should().BeGreaterThan(Known.DistanceFrom(points));
    }

    [Fact]
    public void Too_small_a_grid_one_with_a_hole_and_an_impossible_error_are_refused()
    {
        var points = Points(noise: 0, seed: 1);

        ((Action)(() => ScalingFitter.Fit([.. points.Where(p => p.Latents < 100_000)], 1)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*3 sizes (2048, 8192, 32768) and 7 sparsities*at least 4*");
        ((Action)(() => ScalingFitter.Fit([.. points.Where(p => (p.Latents, p.K) != (8192, 64))], 1)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*without n 8192 k 64, expected*every combination once*");
        ((Action)(() => ScalingFitter.Fit([.. points, points[0]], 1)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*43 autoencoders of 6 sizes*every combination once*");
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
