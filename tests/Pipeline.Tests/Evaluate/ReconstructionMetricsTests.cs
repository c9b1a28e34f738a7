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
        using var scope = NewDisposeScope();
        var x = tensor(
            new float[,]
            {
                { 3, 4 },
                { 0, 2 },
            }
        );
        var reconstruction = tensor(
            new float[,]
            {
                { 3, 0 },
                { 0, 2 },
            }
        );
        var latents = tensor(
            new float[,]
            {
                { 5 },
                { 0 },
            }
        );
        var metrics = new ReconstructionMetrics(2);
        metrics.Add(x.narrow(0, 0, 1), reconstruction.narrow(0, 0, 1), latents.narrow(0, 0, 1));
        metrics.Add(x.narrow(0, 1, 1), reconstruction.narrow(0, 1, 1), latents.narrow(0, 1, 1));

        var json = metrics.ToJson(2);

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
}
