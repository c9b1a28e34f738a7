using System.Text.Json.Nodes;
using Pipeline.Executors;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using TorchSharp;

namespace Pipeline.Tests.Pipelines;

/// <summary>Whole runs: what they leave, what they skip, and that interrupted ones end in the same bytes.</summary>
public sealed class PipelineRunTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    private static readonly IReadOnlySet<string> AllStages = StageGraph.StageNames.ToHashSet();

    [Fact]
    public void A_run_leaves_the_artifact_tree_and_running_again_does_nothing()
    {
        using var folder = new TempFolder();
        string run = folder.File("run");

        var first = SaeProcess.Run("run", tiny.Pipeline, "--out", run, "--threads", "1");
        var again = SaeProcess.Run("run", tiny.Pipeline, "--out", run, "--threads", "1");

        first.ExitCode.Should().Be(0, first.Error);
        foreach (string hook in new[] { "blocks.0.hook_resid_post", "blocks.1.hook_resid_post" })
        {
            string sae = Path.Combine(hook, "topk-64-k4-deadafter1k-lr0.001");
            File.Exists(Path.Combine(run, "harvest", hook, "shard-00000.arrow")).Should().BeTrue();
            File.Exists(Path.Combine(run, "train", sae, "sae_weights.safetensors")).Should().BeTrue();
            var metrics = JsonNode.Parse(File.ReadAllText(Path.Combine(run, "evaluate", sae, "metrics.json")))!;
            metrics["l0"]!.GetValue<double>().Should().BeInRange(0.1, 4);
            metrics["fvu"]!.GetValue<double>().Should().BeInRange(0, 1);
            metrics["loss_recovered"]!.GetValue<double>().Should().BeInRange(0, 1.2);
            metrics["definitions"]!.AsObject().Select(p => p.Key).Should().Contain(["kl", "ce_mean", "relative_bias"]);
        }
        File.ReadAllText(Path.Combine(run, "report", "index.html")).Should().Contain("blocks.1.hook_resid_post");
        again.ExitCode.Should().Be(0, again.Error);
        again.Output.Should().Contain("nothing to do");
        SaeProcess.Run("verify", run).ExitCode.Should().Be(0);
        SaeProcess.Run("status", run).Output.Should().Contain("complete").And.NotContain("unfinished");
    }

    [Fact]
    public void A_deleted_shard_is_noticed_by_verify_and_made_again_bit_for_bit()
    {
        using var folder = new TempFolder();
        Run(folder.Path);
        string shard = Path.Combine(folder.Path, "harvest", "blocks.0.hook_resid_post", "shard-00002.arrow");
        var before = ArtifactHashes.Of(folder.Path);
        File.Delete(shard);

        var verified = SaeProcess.Run("verify", folder.Path);
        Run(folder.Path).Should().Be(1);

        verified.ExitCode.Should().Be(3);
        verified.Error.Should().Contain(shard);
        ArtifactHashes.Of(folder.Path).Should().Equal(before);
    }

    [Fact]
    public void A_run_interrupted_in_every_stage_ends_in_the_same_bytes()
    {
        using var whole = new TempFolder();
        using var broken = new TempFolder();
        Run(whole.Path);
        int interruptions = 0;
        bool finished = false;
        while (!finished)
        {
            using var cancel = new CancellationTokenSource();
            int updates = 0;
            // Each attempt lasts one progress report longer than the one before: every stage is cut several times.
            int last = 2 + interruptions;
            var progress = new SilentProgress(
                (_, _) =>
                {
                    if (++updates == last)
                    {
                        cancel.Cancel();
                    }
                }
            );
            try
            {
                Run(broken.Path, progress, cancel.Token);
                finished = true;
            }
            catch (RunInterruptedException)
            {
                interruptions++;
            }
            interruptions.Should().BeLessThan(100);
        }

        interruptions.Should().BeGreaterThan(5);
        ArtifactHashes.Of(broken.Path).Should().Equal(ArtifactHashes.Of(whole.Path));
    }

    /// <summary>
    /// The SAEs of two hooks are interrupted in the middle; then the pipeline gets a further one, before them or after them
    /// in the file.
    /// </summary>
    [Theory]
    [InlineData("{architecture: topk, expansion: 1, k: 2}, ", "")]
    [InlineData("", ", {architecture: topk, expansion: 1, k: 2}")]
    public void An_SAE_that_comes_to_an_interrupted_evaluation_takes_none_of_the_others_back(
        string before,
        string after
    )
    {
        const string Old = "{architecture: topk, expansion: 2, k: 4}";
        using var whole = new TempFolder();
        using var grown = new TempFolder();
        string both = $"train.saes=[{before}{Old}{after}]";
        Run(whole.Path, both);
        using var cancel = new CancellationTokenSource();
        var interrupt = new SilentProgress(
            (task, done) =>
            {
                if (task == "evaluate" && done > 300)
                {
                    cancel.Cancel();
                }
            }
        );
        var interrupted = () => Run(grown.Path, interrupt, cancel.Token, $"train.saes=[{Old}]");
        interrupted.Should().Throw<RunInterruptedException>();
        var said = new List<string>();
        var evaluated = new List<double>();

        Run(
            grown.Path,
            new SilentProgress(
                (task, done) =>
                {
                    if (task == "evaluate")
                    {
                        evaluated.Add(done);
                    }
                },
                said.Add
            ),
            CancellationToken.None,
            both
        );

        string note = said.Should()
            .ContainSingle(line => line.StartsWith("evaluate:", StringComparison.Ordinal))
            .Subject;
        note.Should()
            .ContainAll(
                "blocks.0.hook_resid_post/topk-64-k4",
                "blocks.1.hook_resid_post/topk-64-k4",
                "go on from there"
            );
        note.Should().NotContain("topk-32-k2");
        evaluated[0].Should().BeGreaterThan(300, "what was evaluated before is not evaluated again");
        ArtifactHashes.Of(grown.Path).Should().Equal(ArtifactHashes.Of(whole.Path));
        foreach (string manifest in Manifests(grown.Path, "topk-64-k4"))
        {
            JsonNode.Parse(File.ReadAllText(manifest))!["provenance"]!["checkpoint"]!
                .GetValue<string>()
                .Should()
                .Be(note);
        }
    }

    private static string[] Manifests(string folder, string sae) =>
        [
            .. Directory
                .EnumerateFiles(Path.Combine(folder, "evaluate"), "manifest.json", SearchOption.AllDirectories)
                .Where(path => path.Contains(sae, StringComparison.Ordinal)),
        ];

    [Fact]
    public void One_changed_setting_makes_just_what_depends_on_it_again_and_explain_says_why()
    {
        using var folder = new TempFolder();
        Run(folder.Path);
        var before = ArtifactHashes.Of(folder.Path);

        var explained = SaeProcess.Run(
            "explain",
            tiny.Pipeline,
            "--out",
            folder.Path,
            "--threads",
            "1",
            "--set",
            "train.tokens=5120"
        );
        int made = Run(folder.Path, "train.tokens=5120");

        explained.Output.Should().Contain("skip  harvest: up to date");
        explained.Output.Should().Contain("config.tokens was 6400, now 5120");
        made.Should().Be(5); // two SAEs, two evaluations, the report
        var after = ArtifactHashes.Of(folder.Path);
        after.Where(p => p.Key.StartsWith("harvest/", StringComparison.Ordinal)).Should().BeSubsetOf(before);
    }

    [Fact]
    public void Evaluation_settings_leave_harvest_and_training_alone()
    {
        using var folder = new TempFolder();
        Run(folder.Path);

        Run(folder.Path, "evaluate.tokens=300").Should().Be(3);
    }

    [Fact]
    public void Figures_of_groups_add_up_to_those_of_all_tokens_and_baselines_have_the_size_of_the_SAE()
    {
        using var folder = new TempFolder();
        Run(folder.Path);
        foreach (var metrics in Metrics(folder.Path))
        {
            foreach (string grouping in new[] { "by_position", "by_class" })
            {
                var groups = metrics[grouping]!.AsArray();
                double Sum(string of, string weight) =>
                    groups.Sum(group => (Number(group!, of) ?? 0) * Number(group!, weight)!.Value);
                groups.Should().HaveCountGreaterThan(3);
                groups.Sum(group => Number(group!, "tokens")).Should().Be(Number(metrics, "tokens"));
                groups.Sum(group => Number(group!, "scored_tokens")).Should().Be(Number(metrics, "scored_tokens"));
                foreach (string name in new[] { "ce_clean", "ce_spliced", "ce_zero" })
                {
                    double mean = Sum(name, "scored_tokens") / Number(metrics, "scored_tokens")!.Value;
                    mean.Should().BeApproximately(Number(metrics, name)!.Value, 1e-9, $"{grouping} {name}");
                }
                double l0 = Sum("l0", "tokens") / Number(metrics, "tokens")!.Value;
                l0.Should().BeApproximately(Number(metrics, "l0")!.Value, 1e-9);
            }
            var intervals = metrics["intervals"]!;
            foreach (string name in new[] { "loss_recovered", "ce_delta", "fvu", "l0" })
            {
                double[] ends = [.. intervals[name]!.AsArray().Select(end => end!.GetValue<double>())];
                Number(metrics, name).Should().BeInRange(ends[0], ends[1], name);
            }
            metrics["all_hooks"]!["hooks"]!.AsArray().Should().HaveCount(2);
            Number(metrics["all_hooks"]!, "ce_zero")
                .Should()
                .BeApproximately(Number(metrics, "ce_zero")!.Value, 1e-6, "an empty stream is empty at whichever hook");
            var (pca, random) = (metrics["baselines"]!["pca"]!, metrics["baselines"]!["random"]!);
            Number(pca, "directions").Should().Be(4);
            Number(random, "k").Should().Be(4);
            Number(pca, "fvu").Should().BeInRange(0, 1);
            Number(random, "loss_recovered").Should().BeLessThan(Number(metrics, "loss_recovered")!.Value);
            Number(metrics["direct_effect"]!, "latents").Should().BeInRange(1, 32);
            metrics
                .AsObject()
                .Select(entry => entry.Key)
                .Except(["definitions"])
                .Should()
                .BeSubsetOf(metrics["definitions"]!.AsObject().Select(entry => entry.Key), "each has its definition");
        }
    }

    [Fact]
    public void Without_baselines_every_other_figure_is_the_same()
    {
        using var folder = new TempFolder();
        Run(folder.Path);
        var before = Metrics(folder.Path);

        Run(folder.Path, "evaluate.baselines=false").Should().Be(3);

        foreach (var (with, without) in before.Zip(Metrics(folder.Path)))
        {
            with["baselines"].Should().NotBeNull();
            without["baselines"].Should().BeNull();
            with["baselines"] = null;
            with.ToJsonString().Should().Be(without.ToJsonString());
        }
    }

    private static double? Number(JsonNode json, string key) => json[key]?.GetValue<double>();

    private static List<JsonNode> Metrics(string folder) =>
        [
            .. Directory
                .EnumerateFiles(Path.Combine(folder, "evaluate"), "metrics.json", SearchOption.AllDirectories)
                .Order(StringComparer.Ordinal)
                .Select(path => JsonNode.Parse(File.ReadAllText(path))!),
        ];

    private int Run(string folder, params string[] settings) =>
        Run(folder, new SilentProgress(), CancellationToken.None, settings);

    private int Run(string folder, IProgressSink progress, CancellationToken cancel, params string[] settings)
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(tiny.Pipeline, settings);
        var run = RunInputs.Open(config, tiny.Pipeline, folder, torch.CPU);
        return new StageGraph(run).Make(AllStages, new LocalExecutor(), progress, cancel);
    }
}
