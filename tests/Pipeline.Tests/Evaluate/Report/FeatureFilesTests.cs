using System.Text.Json.Nodes;
using Pipeline.Evaluate.Report.Browser;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Report;

public sealed class FeatureFilesTests : IDisposable
{
    private const string HookAndSae = $"{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}";
    private const string Folder = $"evaluate/{HookAndSae}/features";
    private const string Index = $"{Folder}/index.json";
    private const string FirstBlock = $"{Folder}/block-00000.json";

    private readonly RunFolderFixture _run = new();

    public void Dispose() => _run.Dispose();

    [Fact]
    public void Every_latent_has_its_columns_and_described_ones_their_block()
    {
        FeatureFiles files = Open()!;

        files.Columns.Latents.Should().Be(1024);
        files.Blocks.Should().Be(2);
        files.Columns.IsDead.Should().Equal(Enumerable.Range(0, 1024).Select(FeatureFolder.IsDead));
        files.Latent(640)!.Value.Required("index").AsInt32().Should().Be(640);
        files.Latent(641).Should().BeNull("it is not described");
    }

    [Fact]
    public void An_evaluation_without_features_has_none() =>
        FeatureFiles
            .TryOpen(_run.Root, $"{RunFolderFixture.LateHook}/{RunFolderFixture.Gated}", "Run again")
            .Should()
            .BeNull();

    [Fact]
    public void A_column_that_lacks_an_entry_is_refused()
    {
        _run.Edit(Index, index => index["columns"]!["top_token"]!.AsArray().RemoveAt(0));

        FluentActions
            .Invoking(Open)
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage($"{Index}: columns.top_token: found 1023 entries, expected one for each of 1024 latents*");
    }

    [Theory]
    [InlineData("density")]
    [InlineData("max_activation")]
    [InlineData("mean_activation")]
    [InlineData("top_token")]
    [InlineData("dead")]
    [InlineData("dense")]
    [InlineData("n2g_f1")]
    [InlineData("block")]
    public void Every_column_is_asked_for(string column)
    {
        _run.Edit(Index, index => index["columns"]!.AsObject().Remove(column));

        FluentActions
            .Invoking(Open)
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage($"{Index}: columns: found no key '{column}'*");
    }

    [Fact]
    public void A_block_that_is_missing_is_named()
    {
        File.Delete(_run.PathOf(FirstBlock));

        Block(0).Should().Throw<CorruptArtifactException>().WithMessage($"{FirstBlock}: found no such file*");
    }

    [Fact]
    public void A_block_that_a_latent_was_asked_of_is_not_read_again()
    {
        FeatureFiles files = Open()!;
        files.Latent(10)!.Value.Required("index").AsInt32().Should().Be(10);
        File.Delete(_run.PathOf(FirstBlock));

        files.Latent(20)!.Value.Required("index").AsInt32().Should().Be(20);
        files.Block(0).Required("latents").AsArray().Should().HaveCount(64);
    }

    [Fact]
    public void A_block_with_other_latents_than_the_index_says_is_refused()
    {
        Change(latent => latent["index"] = 11);

        Block(0).Should().Throw<CorruptArtifactException>().WithMessage($"{FirstBlock}: found latents 10, 11, 20*");
    }

    [Fact]
    public void An_example_with_a_peak_outside_it_is_refused()
    {
        Change(latent => latent["top"]![1]!["peak"] = 7);

        Block(0)
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage($"{FirstBlock}: latents[0].top[1]: found peak 7, expected the index of one of 7 tokens*");
    }

    [Fact]
    public void An_example_of_a_band_without_an_activation_for_each_token_is_refused()
    {
        Change(latent => latent["quantiles"]![2]!["examples"]![0]!["activations"]!.AsArray().RemoveAt(0));

        Block(0).Should().Throw<CorruptArtifactException>().WithMessage("*quantiles[2].examples[0]: found 7 tokens*");
    }

    [Fact]
    public void A_neighbour_that_is_no_latent_is_refused()
    {
        Change(latent => latent["nearest_cosine"]![3]!["latent"] = 1024);

        Block(0)
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage("*nearest_cosine[3].latent: found latent 1024*");
    }

    private FeatureFiles? Open() => FeatureFiles.TryOpen(_run.Root, HookAndSae, "Run the evaluation again");

    private Func<object> Block(int number) => () => Open()!.Block(number);

    /// <summary>Changes the first latent of the first block.</summary>
    private void Change(Action<JsonNode> change) => _run.Edit(FirstBlock, block => change(block["latents"]![0]!));
}
