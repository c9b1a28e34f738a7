using Pipeline.Evaluate;
using Pipeline.Shared;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class BootstrapTests
{
    [Fact]
    public void An_interval_of_95_percent_contains_the_truth_about_95_times_in_100()
    {
        const int Trials = 300;
        int contained = 0;
        for (int trial = 0; trial < Trials; trial++)
        {
            var (low, high) = IntervalOfRatio(documents: 60, seed: trial);
            contained += low <= TrueRatio && TrueRatio <= high ? 1 : 0;
        }

        (contained / (double)Trials).Should().BeInRange(0.89, 0.98);
    }

    [Fact]
    public void Sixteen_times_the_documents_give_an_interval_about_a_quarter_as_wide()
    {
        double few = 0;
        double many = 0;
        for (int trial = 0; trial < 10; trial++)
        {
            var (low, high) = IntervalOfRatio(documents: 40, seed: trial);
            few += high - low;
            (low, high) = IntervalOfRatio(documents: 640, seed: 100 + trial);
            many += high - low;
        }

        (few / many).Should().BeInRange(3, 5.3);
    }

    [Fact]
    public void Of_one_document_and_of_figures_that_are_undefined_there_is_no_interval()
    {
        var one = new Bootstrap(1, new Xoshiro256(1));
        var two = new Bootstrap(2, new Xoshiro256(1));

        one.Interval(Totals(one, 3)).Should().BeNull();
        two.Interval(Totals(two, 3, double.NaN)).Should().BeNull();
        two.Interval(Totals(two, 3, 4)).Should().NotBeNull();
    }

    [Fact]
    public void Vectors_are_summed_as_numbers_are_and_every_resample_has_all_its_documents()
    {
        var bootstrap = new Bootstrap(7, new Xoshiro256(1));
        double[] sumsN3 = Gaussians(7 * 3);

        double[] totalsR3 = bootstrap.Totals(3, document => sumsN3.AsSpan(document * 3, 3));

        for (int d = 0; d < 3; d++)
        {
            double[] alone = Totals(bootstrap, [.. sumsN3.Where((_, i) => i % 3 == d)]);
            totalsR3.Where((_, i) => i % 3 == d).Should().Equal(alone);
        }
        Totals(bootstrap, 1, 1, 1, 1, 1, 1, 1).Should().OnlyContain(drawn => drawn == 7);
        Totals(bootstrap, 1, 0, 0, 0, 0, 0, 0).Average().Should().BeApproximately(1, 0.15);
    }

    /// <summary>600 documents: more than are taken at a time.</summary>
    [Theory]
    [InlineData(1)] // a block for each resample
    [InlineData(600 * 7)]
    [InlineData(600 * 999)] // a last block of one
    public void Held_in_blocks_resamples_are_those_held_as_a_whole_in_whatever_order_they_are_asked_for(int room)
    {
        double[] sumsN2 = Gaussians(600 * 2);
        DocumentSums both = document => sumsN2.AsSpan(document * 2, 2);
        double[] wholeR2 = new Bootstrap(600, new Xoshiro256(1)).Totals(2, both);

        var inBlocks = new Bootstrap(600, new Xoshiro256(1), room);

        inBlocks.Totals(2, both).Should().Equal(wholeR2);
        inBlocks.Totals(2, both).Should().Equal(wholeR2);
    }

    [Fact]
    public void The_number_of_threads_makes_no_difference()
    {
        int before = get_num_threads();
        double[] sumsN5 = Gaussians(700 * 5);
        double[] Drawn(int threads)
        {
            set_num_threads(threads);
            return new Bootstrap(700, new Xoshiro256(1)).Totals(5, document => sumsN5.AsSpan(document * 5, 5));
        }
        try
        {
            Drawn(2).Should().Equal(Drawn(1));
        }
        finally
        {
            set_num_threads(before);
        }
    }

    /// <summary>A table of all draws would be [1000, 20,000]: 160 MB of doubles.</summary>
    [Fact]
    public void What_it_holds_does_not_grow_with_the_documents()
    {
        double[] sumsN = Gaussians(20_000);
        long before = GC.GetAllocatedBytesForCurrentThread();

        var bootstrap = new Bootstrap(20_000, new Xoshiro256(1));
        bootstrap.Totals(1, document => sumsN.AsSpan(document, 1));

        (GC.GetAllocatedBytesForCurrentThread() - before).Should().BeLessThan(20_000_000);
    }

    /// <summary>The plain form: every document's tokens, as often as it was drawn, as one matrix.</summary>
    [Fact]
    public void Variances_of_resamples_are_those_of_the_tokens_drawn()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(1, CPU);
        var xND = randn(30, 4, generator: random) + 2;
        TokenPlace[] places = [.. Enumerable.Range(0, 30).Select(i => new TokenPlace(0, 0, i / 8))];
        var inputs = new InputSums(4);
        inputs.Add(places, xND.data<float>().ToArray());
        var bootstrap = new Bootstrap(4, new Xoshiro256(5));

        double[] variancesR = inputs.VariancesOf(bootstrap);

        double[][] drawnNR =
        [
            .. Enumerable
                .Range(0, 4)
                .Select(n => Totals(bootstrap, [.. Enumerable.Range(0, 4).Select(i => i == n ? 1.0 : 0)])),
        ];
        foreach (int r in Enumerable.Range(0, 50))
        {
            long[] rows =
            [
                .. Enumerable.Range(0, 30).SelectMany(row => Enumerable.Repeat((long)row, (int)drawnNR[row / 8][r])),
            ];
            var drawn = xND.index_select(0, tensor(rows)).to(float64);
            double expected = (drawn - drawn.mean([0], keepdim: true)).square().sum().item<double>();
            variancesR[r].Should().BeApproximately(expected, 1e-9 * expected);
        }
    }

    /// <summary>Documents of different lengths and levels: sum of errors over sum of squares.</summary>
    private const double TrueRatio = 0.3;

    private static double[] Totals(Bootstrap bootstrap, params double[] sumsN) =>
        bootstrap.Totals(1, document => sumsN.AsSpan(document, 1));

    private static double[] Gaussians(int count)
    {
        var random = new Xoshiro256(3);
        return [.. Enumerable.Range(0, count).Select(_ => random.NextGaussian())];
    }

    private static (double Low, double High) IntervalOfRatio(int documents, int seed)
    {
        var random = new Xoshiro256((ulong)seed, "test", "documents");
        var (errors, squares) = (new double[documents], new double[documents]);
        for (int n = 0; n < documents; n++)
        {
            int tokens = 20 + random.NextInt(80);
            squares[n] = tokens * (1 + (0.2 * random.NextGaussian()));
            errors[n] = squares[n] * TrueRatio * (1 + (0.3 * random.NextGaussian()));
        }
        var bootstrap = new Bootstrap(documents, new Xoshiro256((ulong)seed));
        double[] squaresR = Totals(bootstrap, squares);
        var interval = bootstrap.Interval(Totals(bootstrap, errors).Select((sum, r) => sum / squaresR[r]))!;
        return (interval[0]!.GetValue<double>(), interval[1]!.GetValue<double>());
    }
}
