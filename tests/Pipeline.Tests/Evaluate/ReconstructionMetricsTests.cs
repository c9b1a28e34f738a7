using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class ReconstructionMetricsTests
{
    /// <summary>x = (3,4) and (0,2); x̂ = (3,0) and (0,2); latents (5) and (0).</summary>
    [Fact]
    public void Every_metric_is_what_its_definition_says()
    {
        var json = Measure(
            [
                [3, 4],
                [0, 2],
            ],
            [
                [3, 0],
                [0, 2],
            ],
            [
                [5],
                [0],
            ],
            new TokenPlace[2]
        );

        double Value(string name) => json[name]!.GetValue<double>();
        json["tokens"]!.GetValue<long>().Should().Be(2);
        Value("l0").Should().Be(0.5);
        Value("l1").Should().Be(2.5);
        Value("mse").Should().BeApproximately(16 / 4.0, 1e-12);
        Value("nmse_to_zero").Should().BeApproximately(16 / 29.0, 1e-12);
        Value("fvu").Should().BeApproximately(16 / ((1.5 * 1.5 * 2) + 2), 1e-12); // mean is (1.5, 3)
        Value("explained_variance").Should().BeApproximately(1 - Value("fvu"), 1e-12);
        Value("cosine").Should().BeApproximately((0.6 + 1) / 2, 1e-12);
        Value("l2_ratio").Should().BeApproximately((0.6 + 1) / 2, 1e-12);
        Value("relative_bias").Should().BeApproximately(13 / 13.0, 1e-12);
    }

    [Fact]
    public void Of_activations_that_are_all_the_same_fvu_is_undefined_and_the_rest_is_not()
    {
        var json = Measure(
            [
                [3, 4],
                [3, 4],
            ],
            [
                [3, 0],
                [3, 4],
            ],
            [
                [5],
                [0],
            ],
            new TokenPlace[2]
        );

        json.ContainsKey("fvu").Should().BeTrue();
        json["fvu"].Should().BeNull();
        json["nmse_to_zero"]!.GetValue<double>().Should().BeApproximately(16 / 50.0, 1e-12);
    }

    /// <summary>The plain form: tensors in float64, each definition written out.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(64)]
    [InlineData(133)]
    public void One_reading_of_the_rows_gives_what_tensors_give(int width)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        var x = randn(50, width, generator: random) + 0.3;
        x[4].zero_();
        var y = x + (0.2 * randn(50, width, generator: random));
        var latents = nn.functional.relu(randn(50, 9, generator: random));
        // However they are grouped, the total is of all.
        TokenPlace[] places =
        [
            .. Enumerable.Range(0, 50).Select(i => new TokenPlace(i % 4, (TokenClass)(i % 3), i / 9)),
        ];

        var json = Measure(Rows(x), Rows(y), Rows(latents), places);

        var (x64, y64) = (x.to(float64), y.to(float64));
        var error = (x64 - y64).square().sum();
        var variance = (x64 - x64.mean([0], keepdim: true)).square().sum();
        var dotR = (x64 * y64).sum(-1);
        var normsR = x64.norm(-1) * y64.norm(-1);
        var notZeroR = x64.norm(-1) > 0;
        Expect("l0", (latents > 0).sum(float64) / 50);
        Expect("l1", latents.sum(float64) / 50);
        Expect("mse", error / 50 / width);
        Expect("fvu", error / variance);
        Expect("nmse_to_zero", error / x64.square().sum());
        Expect("cosine", (dotR / normsR).masked_select(notZeroR).sum() / 50);
        Expect("relative_bias", y64.square().sum() / dotR.sum());

        void Expect(string name, Tensor expected)
        {
            double value = expected.item<double>();
            json[name]!.GetValue<double>().Should().BeApproximately(value, (1e-9 * Math.Abs(value)) + 1e-12, name);
        }

        static float[][] Rows(Tensor matrix) =>
            [.. Enumerable.Range(0, (int)matrix.shape[0]).Select(row => matrix[row].data<float>().ToArray())];
    }

    private static JsonObject Measure(float[][] x, float[][] y, float[][] latents, TokenPlace[] places)
    {
        int width = x[0].Length;
        var metrics = new ReconstructionMetrics();
        var inputs = new InputSums(width);
        inputs.Add(places, x.SelectMany(row => row).ToArray());
        for (int row = 0; row < x.Length; row++)
        {
            metrics.Add(places[row], x[row], y[row], latents[row]);
        }
        return ReconstructionMetrics.ToJson(metrics.Sums.Total(), inputs.Sums.Total(), width);
    }
}
