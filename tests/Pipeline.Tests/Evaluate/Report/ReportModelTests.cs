using System.Text.Json.Nodes;
using Pipeline.Evaluate.Report;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Report;

public sealed class ReportModelTests : IDisposable
{
    private const string TopKMetrics = $"evaluate/{RunFolderFixture.LateHook}/{RunFolderFixture.TopK}/metrics.json";
    private const string TopKCurve = $"train/{RunFolderFixture.LateHook}/{RunFolderFixture.TopK}/metrics.jsonl";
    private const string TopKConfig = $"train/{RunFolderFixture.LateHook}/{RunFolderFixture.TopK}/cfg.json";
    private const string TopKFeatures = $"evaluate/{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}/features";

    private readonly RunFolderFixture _run = new();

    public void Dispose() => _run.Dispose();

    [Fact]
    public void Saes_come_by_layer_number_then_name()
    {
        ReportModel model = ReportModel.Read(_run.Root);

        model
            .Saes.Select(s => (s.Layer, s.Sae))
            .Should()
            .Equal(
                (2, RunFolderFixture.Gated),
                (2, RunFolderFixture.TopK),
                (10, RunFolderFixture.Gated),
                (10, RunFolderFixture.TopK)
            );
    }

    [Fact]
    public void Every_artifact_reaches_the_model()
    {
        ReportModel model = ReportModel.Read(_run.Root);

        model.Run.Name.Should().Be("quickstart");
        model.Run.TokensHarvested.Should().Be(200_000);
        model.Run.Stages.Should().HaveCount(3).And.Contain(new StageTiming("report", null, "running"));
        SaeResult topK = model.Saes[1];
        (topK.Features, topK.K).Should().Be((1024, 32));
        topK.Curve.Should().HaveCount(50);
        topK.Curve[^1].Tokens.Should().Be(50 * 2048);
        topK.Curve[0].Loss.Should().NotBeNull();
        topK.Metrics.LossRecovered.Should().Be(0.9898);
        topK.Metrics.Density.Counts.Should().Equal(11, 203, 640, 157, 0);
        LatentsSummary latents = topK.Latents!;
        (latents.Latents, latents.Described, latents.Dead, latents.Dense).Should().Be((1024, 102, 11, 5));
        latents.Highlights.Should().HaveCount(3).And.BeInDescendingOrder(h => h.N2GF1);
        latents.Highlights[0].Example!.Peak.Should().Be(4);
        (model.Saes[0].K, model.Saes[0].Latents).Should().Be((null, null));
    }

    [Fact]
    public void Absent_features_are_no_fault()
    {
        Directory.Delete(_run.PathOf(TopKFeatures), recursive: true);

        ReportModel.Read(_run.Root).Saes.Should().OnlyContain(s => s.Latents == null);
    }

    [Fact]
    public void A_run_that_has_not_finished_is_read()
    {
        _run.Edit("run.json", run => run.Remove("finished"));

        ReportModel.Read(_run.Root).Run.Finished.Should().BeNull();
    }

    [Theory]
    [InlineData("null")]
    [InlineData("\"NaN\"")]
    public void An_undefined_metric_is_null(string undefined)
    {
        _run.Edit(TopKMetrics, metrics => metrics["loss_recovered"] = JsonNode.Parse(undefined));

        ReportModel.Read(_run.Root).Saes[3].Metrics.LossRecovered.Should().BeNull();
    }

    [Theory]
    [InlineData("run.json")]
    [InlineData("harvest/manifest.json")]
    [InlineData(TopKConfig)]
    [InlineData(TopKCurve)]
    [InlineData(TopKMetrics)]
    public void A_missing_file_is_named_with_its_remedy(string file)
    {
        File.Delete(_run.PathOf(file));

        Reading().Should().Throw<CorruptArtifactException>().WithMessage($"{file}: found no such file*`sae run*");
    }

    [Theory]
    [InlineData("run.json")]
    [InlineData(TopKConfig)]
    [InlineData(TopKMetrics)]
    [InlineData($"{TopKFeatures}/index.json")]
    public void A_file_that_is_not_json_is_named(string file)
    {
        _run.Write(file, "{\"truncated\": ");

        Reading().Should().Throw<CorruptArtifactException>().WithMessage($"{file}: found text that is not JSON*");
    }

    [Fact]
    public void A_bad_line_of_the_training_log_is_named_by_number()
    {
        File.AppendAllText(_run.PathOf(TopKCurve), "{\"step\": 51, \"tok");

        Reading().Should().Throw<CorruptArtifactException>().WithMessage($"{TopKCurve}, line 51: *");
    }

    [Fact]
    public void Every_metric_of_the_design_is_asked_for()
    {
        foreach (string key in MetricCatalog.All.Select(m => m.Key))
        {
            using RunFolderFixture run = new();
            run.Edit(TopKMetrics, metrics => metrics.Remove(key));

            FluentActions
                .Invoking(() => ReportModel.Read(run.Root))
                .Should()
                .Throw<CorruptArtifactException>()
                .WithMessage($"{TopKMetrics}: found no key '{key}'*");
        }
    }

    [Fact]
    public void A_histogram_whose_edges_do_not_fit_its_counts_is_refused()
    {
        _run.Edit(TopKMetrics, metrics => metrics["density_histogram"]!["counts"]!.AsArray().RemoveAt(0));

        Reading()
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage($"{TopKMetrics}: density_histogram: found 6 edges around 4 counts*");
    }

    [Fact]
    public void A_number_of_the_wrong_kind_is_named_by_its_path()
    {
        _run.Edit("run.json", run => run["stages"]![1]!["seconds"] = "long");

        Reading()
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage("run.json: stages[1].seconds: found \"long\", expected a number.*");
    }

    [Fact]
    public void A_run_without_autoencoders_is_refused()
    {
        Directory.Delete(_run.PathOf("train"), recursive: true);
        Directory.Delete(_run.PathOf("evaluate"), recursive: true);

        Reading().Should().Throw<CorruptArtifactException>().WithMessage("train: found no <hook>/<sae> folder*");
    }

    private Func<ReportModel> Reading() => () => ReportModel.Read(_run.Root);
}
