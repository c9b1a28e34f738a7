using System.Text.Json.Nodes;
using Pipeline.Executors;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using TorchSharp;

namespace Pipeline.Tests.Pipelines;

/// <summary>The scaling stage: what it leaves, when it is made again, what it refuses.</summary>
public sealed class ScalingTests(SweptRun swept) : IClassFixture<SweptRun>
{
    private static readonly IReadOnlySet<string> AllStages = StageGraph.StageNames.ToHashSet();

    [Fact]
    public void A_sweep_leaves_a_law_with_its_grid_held_out_errors_and_definitions()
    {
        var law = JsonNode.Parse(File.ReadAllText(swept.Law))!;

        law["hook"]!.GetValue<string>().Should().Be("blocks.0.hook_resid_post");
        law["architecture"]!.GetValue<string>().Should().Be("topk");
        var points = law["points"]!.AsArray();
        points
            .Select(p => (p!["n"]!.GetValue<double>(), p["k"]!.GetValue<double>()))
            .Should()
            .Equal(new[] { 24d, 32, 48, 64 }.SelectMany(n => new[] { 2d, 3, 4, 6 }.Select(k => (n, k))));
        foreach (var point in points)
        {
            string sae = point!["sae"]!.GetValue<string>();
            string file = Path.Combine(swept.Folder, "evaluate", "blocks.0.hook_resid_post", sae, "metrics.json");
            var metrics = JsonNode.Parse(File.ReadAllText(file))!;
            foreach (string key in new[] { "fvu", "nmse_to_zero", "l0" })
            {
                point[key]!.GetValue<double>().Should().Be(metrics[key]!.GetValue<double>());
            }
        }
        foreach (string name in new[] { "alpha", "beta_k", "beta_n", "gamma", "zeta", "eta" })
        {
            var coefficient = law["coefficients"]![name]!;
            coefficient["low"]!.GetValue<double>().Should().BeLessThan(coefficient["high"]!.GetValue<double>());
        }
        law["held_out"]!["n"]!.GetValue<double>().Should().Be(64);
        law["held_out"]!["points"]!.AsArray().Should().HaveCount(4);
        law["held_out"]!["error"]!.GetValue<double>().Should().BePositive();
        (law["published"]!["beta_k"]!.GetValue<double>(), law["published"]!["gamma"]!.GetValue<double>())
            .Should()
            .Be((0.26, -0.042));
        law["definitions"]!.AsObject().Select(d => d.Key).Should().Contain(["error", "held_out", "published"]);
        File.ReadAllText(Path.Combine(swept.Folder, "report", "index.html")).Should().Contain("id=\"scaling\"");
        SaeProcess.Run("verify", swept.Folder).ExitCode.Should().Be(0);
        SaeProcess.Run("status", swept.Folder).Output.Should().Contain("complete    scaling/blocks.0.hook_resid_post");
    }

    [Fact]
    public void It_is_made_again_when_its_settings_or_an_evaluation_change_and_not_otherwise()
    {
        using var copy = swept.Copy();

        Make(copy.Path).Should().Be(0);
        Reason(copy.Path, "scaling.resamples=41").Should().Be("config.resamples was 40, now 41");
        Make(copy.Path, "scaling.resamples=41").Should().Be(2); // the law and the report
        Make(copy.Path, "evaluate.tokens=300", "scaling.resamples=41").Should().Be(18);
    }

    [Fact]
    public void Without_the_section_nothing_of_it_is_run_or_shown()
    {
        using var copy = swept.Copy();

        Make(copy.Path, "scaling=null").Should().Be(1); // the report, which no longer shows it

        File.ReadAllText(Path.Combine(copy.Path, "report", "index.html")).Should().NotContain("id=\"scaling\"");
    }

    [Fact]
    public void A_lost_or_altered_law_is_noticed_and_made_again_bit_for_bit()
    {
        using var copy = swept.Copy();
        string law = Path.Combine(copy.Path, "scaling", "blocks.0.hook_resid_post", "scaling.json");
        TempFolder.Overwrite(law, "{}"u8);

        var verified = SaeProcess.Run("verify", copy.Path);
        Make(copy.Path).Should().Be(1);

        verified.ExitCode.Should().Be(3);
        verified.Error.Should().Contain(law);
        ArtifactHashes.Of(copy.Path).Should().Equal(ArtifactHashes.Of(swept.Folder));
    }

    [Fact]
    public void An_altered_evaluation_is_refused()
    {
        using var copy = swept.Copy();
        Directory.Delete(Path.Combine(copy.Path, "scaling"), recursive: true);
        string metrics = Directory
            .EnumerateFiles(Path.Combine(copy.Path, "evaluate"), "metrics.json", SearchOption.AllDirectories)
            .First();
        TempFolder.Overwrite(metrics, [.. File.ReadAllBytes(metrics)[..^2], (byte)' ', (byte)'\n']);

        var made = () => Make(copy.Path);

        made.Should().Throw<CorruptArtifactException>().WithMessage($"{metrics}*");
    }

    [Fact]
    public void Interrupted_it_begins_anew_and_ends_in_the_same_bytes()
    {
        using var copy = swept.Copy();
        Directory.Delete(Path.Combine(copy.Path, "scaling"), recursive: true);
        using var cancel = new CancellationTokenSource();
        var progress = new SilentProgress(
            (task, done) =>
            {
                if (task.StartsWith("scaling", StringComparison.Ordinal) && done == 3)
                {
                    cancel.Cancel();
                }
            }
        );

        var interrupted = () => swept.Graph(copy.Path).Make(AllStages, new LocalExecutor(), progress, cancel.Token);

        interrupted.Should().Throw<RunInterruptedException>().WithMessage("*Run the command again*");
        Reason(copy.Path).Should().Be("begun and not finished");
        Make(copy.Path).Should().Be(1);
        ArtifactHashes.Of(copy.Path).Should().Equal(ArtifactHashes.Of(swept.Folder));
    }

    [Fact]
    public void Killed_at_any_of_its_steps_it_ends_in_the_same_bytes()
    {
        using var logged = swept.Copy();
        string[] passed = OnlyScaling(logged.Path, "PIPELINE_FAILPOINT_LOG", logged["failpoints"], expected: 0);
        string[] steps =
        [
            "begun blocks.0.hook_resid_post",
            "written scaling.json",
            "renamed scaling.json",
            "renamed manifest.json",
            "note removed blocks.0.hook_resid_post",
        ];

        foreach (string step in steps)
        {
            passed.Should().Contain(step);
            using var copy = swept.Copy();
            OnlyScaling(copy.Path, "PIPELINE_FAILPOINT", $"{Array.IndexOf(passed, step) + 1}", expected: 137);
            Make(copy.Path);
            ArtifactHashes.Of(copy.Path).Should().Equal(ArtifactHashes.Of(swept.Folder), $"killed after '{step}'");
        }
    }

    [Fact]
    public void Only_scaling_needs_the_evaluations_to_be_there()
    {
        using var copy = swept.Copy();
        Directory.Delete(Path.Combine(copy.Path, "scaling"), recursive: true);
        Directory.Delete(Path.Combine(copy.Path, "evaluate"), recursive: true);

        var made = () =>
            swept
                .Graph(copy.Path)
                .Make(new HashSet<string> { "scaling" }, new LocalExecutor(), new NoProgress(), default);

        made.Should().Throw<ConfigurationException>().WithMessage("--only: found scaling without evaluate*");
    }

    [Fact]
    public void Only_scaling_without_the_section_is_refused()
    {
        var made = () =>
            swept
                .Graph(swept.Folder, "scaling=null")
                .Make(new HashSet<string> { "scaling" }, new LocalExecutor(), new NoProgress(), default);

        made.Should()
            .Throw<ConfigurationException>()
            .WithMessage("--only: found scaling*no scaling section*Add scaling: {}*");
    }

    [Theory]
    [InlineData(
        "{architecture: topk, features: [24, 32, 48], k: [2, 3, 4, 6]}",
        "12 autoencoders of 3 sizes (24, 32, 48) and 4 sparsities (2, 3, 4, 6)*at least 4 of each*train.sweep"
    )]
    [InlineData(
        "[{architecture: topk, features: [24, 32, 48, 64], k: [2, 3, 4]}, {architecture: topk, features: 24, k: 6}]",
        "13 autoencoders*without n 32 k 6, n 48 k 6, n 64 k 6"
    )]
    [InlineData(
        "{architecture: [topk, batchtopk], features: [24, 32, 48, 64], k: [2, 3, 4, 6]}",
        "topk-24-k2 with architecture \"topk\" and batchtopk-24-k2 with \"batchtopk\", among topk-24-k2, batchtopk-24-k2*a pipeline of their own"
    )]
    [InlineData(
        "{architecture: topk, features: [24, 32, 48, 64], k: [2, 3, 4, 6], learningRate: [0.001, 0.002]}",
        "with learningRate 0.001 and*with 0.002"
    )]
    [InlineData("{architecture: gated, l1: [1, 2]}", "gated-256-l1-1, gated-256-l1-2*k-sparse family")]
    public void What_is_no_grid_is_refused_before_anything_runs(string sweep, string message)
    {
        using var folder = new TempFolder();

        var opened = () => swept.Graph(folder["run"], $"train.sweep={sweep}");

        opened.Should().Throw<ConfigurationException>().WithMessage($"scaling: train.saes*found*{message}*");
        Directory.Exists(folder["run"]).Should().BeFalse();
    }

    [Fact]
    public void Autoencoders_of_other_kinds_stand_beside_a_grid()
    {
        var graph = swept.Graph(swept.Folder, "train.saes=[{architecture: gated, l1: 1}]");

        graph.Saes.Should().HaveCount(17);
        graph.Scaling.Single().Grid.Saes.Should().HaveCount(16);
    }

    private int Make(string folder, params string[] settings) =>
        swept.Graph(folder, settings).Make(AllStages, new LocalExecutor(), new NoProgress(), default);

    private string Reason(string folder, params string[] settings) =>
        swept.Graph(folder, settings).Scaling.Single().Folder.Reason;

    /// <summary>The stage alone, in a process of its own, its folder gone before; what the failpoint log holds, if any.</summary>
    private string[] OnlyScaling(string run, string variable, string value, int expected)
    {
        Directory.Delete(Path.Combine(run, "scaling"), recursive: true);
        var environment = new Dictionary<string, string?> { [variable] = value };
        string[] settings = [.. swept.Settings.SelectMany(setting => new[] { "--set", setting })];
        var result = SaeProcess.Finish(
            SaeProcess.Start(
                environment,
                ["run", swept.Pipeline, "--out", run, "--threads", "1", "--only", "scaling", .. settings]
            )
        );
        result.ExitCode.Should().Be(expected, result.Error);
        return File.Exists(value) ? File.ReadAllLines(value) : [];
    }
}

/// <summary>The tiny pipeline with 16 autoencoders at one hook and a scaling law, run once whole.</summary>
public sealed class SweptRun : IDisposable
{
    private readonly TinyRun tiny = new();
    private readonly TempFolder folder = new();

    public SweptRun() =>
        Graph(Folder).Make(StageGraph.StageNames.ToHashSet(), new LocalExecutor(), new NoProgress(), default);

    public string Pipeline => tiny.Pipeline;

    public string Folder => folder["run"];

    public string Law => Path.Combine(Folder, "scaling", "blocks.0.hook_resid_post", "scaling.json");

    public string[] Settings { get; } =
    [
        "harvest.hooks=[blocks.0.hook_resid_post]",
        "train.saes=[]",
        "train.sweep={architecture: topk, features: [24, 32, 48, 64], k: [2, 3, 4, 6], learningRate: 0.003, deadAfter: 1000}",
        "train.tokens=2560",
        "evaluate.n2g=0",
        "scaling={resamples: 40}",
    ];

    internal StageGraph Graph(string run, params string[] settings)
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(tiny.Pipeline, [.. Settings, .. settings]);
        return new StageGraph(RunInputs.Open(config, tiny.Pipeline, run, torch.CPU));
    }

    /// <summary>The whole run in a folder of its own, for a test to change.</summary>
    public TempFolder Copy()
    {
        var copy = new TempFolder();
        foreach (string file in Directory.EnumerateFiles(Folder, "*", SearchOption.AllDirectories))
        {
            string to = Path.Combine(copy.Path, Path.GetRelativePath(Folder, file));
            Directory.CreateDirectory(Path.GetDirectoryName(to)!);
            File.Copy(file, to);
        }
        return copy;
    }

    public void Dispose()
    {
        tiny.Dispose();
        folder.Dispose();
    }
}
