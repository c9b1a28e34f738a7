using System.Text.Json.Nodes;

namespace Pipeline.Tests.Pipelines;

public class BenchTests
{
    [Fact]
    public void The_step_benchmark_prints_its_figures_and_its_bound()
    {
        var result = SaeProcess.Run(
            "bench",
            "sae-step",
            "--d-model",
            "16",
            "--features",
            "64",
            "--k",
            "4",
            "--batch",
            "32",
            "--json"
        );

        result.ExitCode.Should().Be(0, result.Error);
        var json = JsonNode.Parse(result.Output)!.AsObject();
        foreach (string key in new[] { "median_ms", "bound_ms", "ratio", "gemm_ms", "peak_rss_mb", "tokens_per_s" })
        {
            json[key]!.GetValue<double>().Should().BePositive(key);
        }
    }

    [Fact]
    public void More_latents_kept_than_there_are_is_refused()
    {
        var result = SaeProcess.Run("bench", "sae-step", "--features", "8", "--k", "9");

        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain("--k").And.Contain("1 to 8");
    }
}
