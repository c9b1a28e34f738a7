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

        one.Interval(one.Totals([3.0])).Should().BeNull();
        two.Interval(two.Totals([3.0, double.NaN])).Should().BeNull();
        two.Interval(two.Totals([3.0, 4.0])).Should().NotBeNull();
    }

    [Fact]
    public void Vectors_are_summed_as_numbers_are_and_every_resample_has_all_its_documents()
    {
        using var scope = NewDisposeScope();
        var bootstrap = new Bootstrap(7, new Xoshiro256(1));
        using var random = new Generator(1, CPU);
        var sumsND = randn(7, 3, float64, generator: random);

        double[] totalsRD = bootstrap.Totals(sumsND).data<double>().ToArray();

        for (int d = 0; d < 3; d++)
        {
            double[] expectedR = bootstrap.Totals(sumsND.index_select(1, tensor((long)d)).data<double>().ToArray());
            for (int r = 0; r < Bootstrap.Resamples; r++)
            {
                totalsRD[(r * 3) + d].Should().BeApproximately(expectedR[r], 1e-12);
            }
        }
        bootstrap.Totals([1, 1, 1, 1, 1, 1, 1]).Should().OnlyContain(drawn => drawn == 7);
        bootstrap.Totals([1, 0, 0, 0, 0, 0, 0]).Average().Should().BeApproximately(1, 0.15);
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
                .Select(n => bootstrap.Totals([.. Enumerable.Range(0, 4).Select(i => i == n ? 1.0 : 0)])),
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
        double[] squaresR = bootstrap.Totals(squares);
        var interval = bootstrap.Interval(bootstrap.Totals(errors).Select((sum, r) => sum / squaresR[r]))!;
        return (interval[0]!.GetValue<double>(), interval[1]!.GetValue<double>());
    }
}
