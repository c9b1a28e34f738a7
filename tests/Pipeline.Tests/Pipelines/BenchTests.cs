using System.Text.Json.Nodes;

namespace Pipeline.Tests.Pipelines;

public class BenchTests
{
    [Theory]
    [InlineData("sae-step --d-model 16 --features 64 --k 4 --batch 32", "gemm_ms")]
    [InlineData("select --features 256 --k 4 --batch 32", "torch_topk_ms")]
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
}
