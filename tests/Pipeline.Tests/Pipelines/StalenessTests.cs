using Pipeline.Executors;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using TorchSharp;

namespace Pipeline.Tests.Pipelines;

/// <summary>What is made again is what depends on content that changed, and nothing else.</summary>
public sealed class StalenessTests : IDisposable
{
    private static readonly IReadOnlySet<string> AllStages = StageGraph.StageNames.ToHashSet();

    private readonly TinyRun tiny = new(); // its own: these tests change its files
    private readonly TempFolder folder = new();

    public void Dispose()
    {
        tiny.Dispose();
        folder.Dispose();
    }

    [Fact]
    public void Touching_every_file_makes_nothing_again()
    {
        Make();
        var later = new DateTime(2040, 1, 1, 0, 0, 0, DateTimeKind.Utc);
        foreach (string root in new[] { folder.Path, tiny.Model })
        {
            foreach (string file in Directory.EnumerateFiles(root, "*", SearchOption.AllDirectories))
            {
                File.SetLastWriteTimeUtc(file, later);
            }
        }
        File.SetLastWriteTimeUtc(tiny.Text, later);

        Make().Should().Be(0);
    }

    [Fact]
    public void One_changed_byte_of_the_text_makes_everything_again()
    {
        Make();
        byte[] text = File.ReadAllBytes(tiny.Text);
        text[text.AsSpan().IndexOf("river"u8)] = (byte)'R';
        TempFolder.Overwrite(tiny.Text, text);

        Explain("harvest").Should().Contain("inputs.text was");
        Make().Should().Be(6); // harvest, two SAEs, two evaluations, the report
    }

    [Fact]
    public void One_changed_byte_of_the_weights_makes_everything_again()
    {
        Make();
        string path = Path.Combine(tiny.Model, "model.safetensors");
        byte[] weights = File.ReadAllBytes(path);
        weights[^2] ^= 1;
        TempFolder.Overwrite(path, weights);

        Explain("harvest").Should().Contain("inputs.model was");
        Make().Should().Be(6);
    }

    [Fact]
    public void One_SAE_more_in_the_list_trains_just_that_one()
    {
        Make();
        var before = ArtifactHashes.Of(folder.Path);

        string both =
            "train.saes=[{architecture: topk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000}, "
            + "{architecture: topk, expansion: 3, k: 4, learningRate: 0.001, deadAfter: 1000}]";
        Make(both).Should().Be(5); // at two hooks one training and one evaluation each, and the report

        before.Should().BeSubsetOf(ArtifactHashes.Of(folder.Path));
    }

    [Fact]
    public void An_SAE_trained_at_one_hook_more_is_evaluated_at_all_of_its_hooks_again_as_they_are_spliced_together()
    {
        const string OneHook =
            "train.saes=[{architecture: topk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000, hooks: [blocks.0.hook_resid_post]}]";
        Make(OneHook).Should().Be(4); // harvest, training, evaluation, report

        Make().Should().Be(4); // the other hook's training, two evaluations, the report
    }

    [Theory]
    [InlineData("seed=4", 6, "config.seed was 3, now 4")]
    [InlineData("harvest.context=16", 6, "config.context was 32, now 16")]
    [InlineData("harvest.dtype=int8", 6, "config.dtype was \"float16\", now \"int8\"")]
    [InlineData("report.features=3", 3, "")]
    [InlineData("train.checkpointEvery=1280", 0, "")]
    [InlineData("evaluate.checkpointEvery=128", 0, "")]
    [InlineData("slurm.workers=7", 0, "")]
    public void One_setting_makes_what_depends_on_it_again(string setting, int made, string why)
    {
        Make();

        if (why.Length > 0)
        {
            Explain("harvest", setting).Should().Contain(why);
        }
        Make(setting).Should().Be(made);
    }

    [Fact]
    public void Work_begun_with_other_threads_is_refused_unless_drift_is_allowed_and_then_recorded()
    {
        string run = folder["drift"];
        string[] cut = ["run", tiny.Pipeline, "--out", run, "--only", "harvest", "--threads", "1"];
        var environment = new Dictionary<string, string?> { ["PIPELINE_FAILPOINT"] = "20" };
        SaeProcess.Finish(SaeProcess.Start(environment, cut)).ExitCode.Should().Be(137);

        var refused = SaeProcess.Run("run", tiny.Pipeline, "--out", run, "--only", "harvest", "--threads", "2");
        var allowed = SaeProcess.Run([.. cut[..^1], "2", "--allow-drift"]);

        refused.ExitCode.Should().Be(2);
        refused.Error.Should().Contain("threads: found 2, expected 1").And.Contain("--allow-drift");
        allowed.ExitCode.Should().Be(0, allowed.Error);
        string manifest = File.ReadAllText(Path.Combine(run, "harvest", "manifest.json"));
        manifest.Should().Contain("\"drift\"").And.Contain("\"before\": \"1\"");
    }

    private int Make(params string[] settings) =>
        Graph(settings).Make(AllStages, new LocalExecutor(), new NoProgress(), default);

    private string Explain(string stage, params string[] settings) =>
        Graph(settings).All().First(entry => entry.Stage == stage).Folder.Reason;

    private StageGraph Graph(string[] settings)
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(tiny.Pipeline, settings);
        return new StageGraph(RunInputs.Open(config, tiny.Pipeline, folder.Path, torch.CPU));
    }
}
