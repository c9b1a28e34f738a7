using System.Text.Json.Nodes;
using Pipeline.Shared.Text;
using Pipeline.Tests.Pipelines;

namespace Pipeline.Tests.Data;

/// <summary>What the repository ships is what its documents say it is.</summary>
public class ShippedDataTests
{
    private static readonly string Model = Path.Combine(TestData.RepositoryRoot, "data", "models", "wiki-6l");
    private static readonly string Text = Path.Combine(TestData.RepositoryRoot, "data", "text", "encyclopedia.jsonl");

    [Fact]
    public void The_text_has_a_hundred_articles_and_thirty_thousand_words()
    {
        var documents = TextSources.Open(Text, "test").Read().ToList();

        documents.Count.Should().BeGreaterThanOrEqualTo(100);
        documents.Select(d => d.Title).Should().OnlyHaveUniqueItems();
        documents.Select(d => d.Id).Should().OnlyHaveUniqueItems();
        documents
            .Sum(d => d.Text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries).Length)
            .Should()
            .BeGreaterThanOrEqualTo(30_000);
    }

    [Fact]
    public void The_model_fits_in_12_MB_and_has_clearly_learned()
    {
        var score = SaeProcess.Run("score", Model, Text, "--tokens", "20000", "--json");

        Directory.EnumerateFiles(Model).Sum(file => new FileInfo(file).Length).Should().BeLessThan(12_000_000);
        score.ExitCode.Should().Be(0, score.Error);
        var json = JsonNode.Parse(score.Output)!;
        double crossEntropy = json["ce"]!.GetValue<double>();
        crossEntropy.Should().BeLessThan(0.8 * json["unigram_entropy"]!.GetValue<double>());
        json["tokens_per_s"]!.GetValue<double>().Should().BePositive();
    }
}
