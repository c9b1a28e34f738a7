using System.Text.Json.Nodes;

namespace Pipeline.Tests.Pipelines;

public class BenchTests
{
    [Theory]
    [InlineData("sae-step --d-model 16 --features 64 --k 4 --batch 32", "gemm_ms")]
    [InlineData("sae-step --d-model 16 --features 64 --k 4 --batch 32 --dead-fraction 0.2", "without_aux_ms")]
    [InlineData("sae-step --architecture jumprelu --d-model 16 --features 64 --batch 32 --twin", "twin_speedup")]
    [InlineData("select --d-model 16 --features 256 --k 4 --batch 32", "global_times_faster_than_torch")]
    [InlineData("forward --d-model 16 --layers 2 --heads 2 --batch 1 --context 8", "gemm_share")]
    [InlineData("dataset --d-model 8 --rows 4096 --batch 256 --dtype int8", "rows_per_s")]
    [InlineData("text --text data/text/encyclopedia.jsonl", "text_mb_per_s")]
    [InlineData("harvest --tokens 600 --context 32", "tokens_per_s")]
    [InlineData("evaluate --tokens 600 --context 32 --expansion 1 --k 4", "tokens_per_s")]
    public void A_benchmark_prints_its_figures_and_its_bound(string arguments, string own)
    {
        var result = SaeProcess.Run(["bench", .. arguments.Split(' '), "--json"]);

        result.ExitCode.Should().Be(0, result.Error);
        var json = JsonNode.Parse(result.Output)!.AsObject();
        foreach (string key in new[] { "median_ms", "bound_ms", "ratio", "peak_rss_mb", own })
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

    [Fact]
    public void Dead_latents_are_as_many_as_asked_for()
    {
        string arguments = "bench sae-step --architecture batchtopk --d-model 16 --features 64 --k 4 --batch 32";

        var result = SaeProcess.Run([.. arguments.Split(' '), "--dead-fraction", "0.25", "--json"]);

        result.ExitCode.Should().Be(0, result.Error);
        JsonNode.Parse(result.Output)!["dead"]!.GetValue<double>().Should().Be(16);
    }

    [Theory]
    [InlineData("--dead-fraction 0.1 --architecture gated", "--dead-fraction: found 0.1 with gated")]
    [InlineData("--dead-fraction 1", "--dead-fraction: found 1 with topk")]
    [InlineData("--architecture topkk", "--architecture: found 'topkk'")]
    public void What_cannot_be_measured_is_refused(string arguments, string error)
    {
        var result = SaeProcess.Run(["bench", "sae-step", .. arguments.Split(' ')]);

        result.ExitCode.Should().Be(2);
        result.Error.Should().Contain(error);
    }
}
