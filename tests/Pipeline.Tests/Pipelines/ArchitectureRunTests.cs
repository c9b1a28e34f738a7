using Pipeline.Executors;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using TorchSharp;

namespace Pipeline.Tests.Pipelines;

/// <summary>Every architecture through the whole pipeline: trained, cut and taken up, saved, evaluated.</summary>
public sealed class ArchitectureRunTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    private static readonly IReadOnlySet<string> AllStages = StageGraph.StageNames.ToHashSet();

    [Theory]
    [InlineData("{architecture: batchtopk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000}", "jumprelu")]
    [InlineData(
        "{architecture: matryoshka-batchtopk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000}",
        "jumprelu"
    )]
    [InlineData("{architecture: standard, expansion: 2, l1: 0.5, learningRate: 0.001}", "standard")]
    [InlineData("{architecture: standard-april, expansion: 2, l1: 0.5, learningRate: 0.001}", "standard")]
    [InlineData("{architecture: gated, expansion: 2, l1: 0.5, learningRate: 0.001}", "gated")]
    [InlineData(
        "{architecture: jumprelu, expansion: 2, l0: 0.001, threshold: 0.01, bandwidth: 0.01, learningRate: 0.001}",
        "jumprelu"
    )]
    public void It_learns_and_interrupted_training_ends_in_the_same_bytes(string sae, string savedAs)
    {
        using var whole = new TempFolder();
        using var cut = new TempFolder();
        Run(whole.Path, sae, new NoProgress(), CancellationToken.None);
        for (int attempt = 1; ; attempt++)
        {
            attempt.Should().BeLessThan(30);
            using var cancel = new CancellationTokenSource();
            int updates = 0;
            var progress = new SilentProgress(
                (task, _) =>
                {
                    if (task.StartsWith("train", StringComparison.Ordinal) && ++updates == 2)
                    {
                        cancel.Cancel();
                    }
                }
            );
            try
            {
                Run(cut.Path, sae, progress, cancel.Token);
                break;
            }
            catch (RunInterruptedException) { }
        }

        ArtifactHashes.Of(cut.Path).Should().Equal(ArtifactHashes.Of(whole.Path));
        string folder = Directory
            .EnumerateDirectories(Path.Combine(whole.Path, "train", "blocks.1.hook_resid_post"))
            .Single();
        using var file = new SaeLensFormat().Load(folder);
        file.Sae.Architecture.Should().Be(savedAs);
        var results = Manifest.TryRead(
            Path.Combine(whole.Path, "evaluate", "blocks.1.hook_resid_post", Path.GetFileName(folder))
        )!;
        results.Results["loss_recovered"]!.GetValue<double>().Should().BeInRange(0.2, 1.2);
    }

    private void Run(string folder, string sae, IProgressSink progress, CancellationToken cancel)
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(
            tiny.Pipeline,
            [$"train.saes=[{sae}]", "harvest.hooks=[blocks.1.hook_resid_post]", "train.checkpointEvery=1280"]
        );
        var run = RunInputs.Open(config, tiny.Pipeline, folder, torch.CPU, cancel: cancel);
        new StageGraph(run).Make(AllStages, new LocalExecutor(), progress, cancel);
    }
}
