using System.Text.Json.Nodes;
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
    private static readonly IReadOnlySet<string> HarvestAndTrain = new HashSet<string> { "harvest", "train" };

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
    [InlineData("{architecture: p-anneal, expansion: 2, l1: 0.5, learningRate: 0.001}", "standard")]
    [InlineData("{architecture: topk, expansion: 2, k: 4, multiTopK: 0.125, learningRate: 0.001}", "topk")]
    [InlineData("{architecture: topk, expansion: 2, k: 4, kFrom: 16, schedule: cosine, learningRate: 0.001}", "topk")]
    [InlineData(
        "{architecture: batchtopk, expansion: 2, k: 4, kFrom: 16, schedule: cosine-restarts, learningRate: 0.001}",
        "jumprelu"
    )]
    [InlineData(
        "{architecture: standard, expansion: 8, l1: 4, sparsityWarmup: 0, dead: resample, resampleEvery: 1280, learningRate: 0.003}",
        "standard"
    )]
    [InlineData(
        "{architecture: gated, expansion: 8, l1: 4, sparsityWarmup: 0, dead: resample, resampleEvery: 1280, learningRate: 0.003}",
        "gated"
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
        if (sae.Contains("resample", StringComparison.Ordinal))
        {
            LastMetrics(folder)["resampled"]!.GetValue<long>().Should().BePositive();
        }
        var results = Manifest.TryRead(
            Path.Combine(whole.Path, "evaluate", "blocks.1.hook_resid_post", Path.GetFileName(folder))
        )!;
        results.Results["loss_recovered"]!.GetValue<double>().Should().BeInRange(0.2, 1.2);
    }

    [Fact]
    public void Autoencoders_of_one_reading_are_the_same_bytes_as_each_alone_wherever_they_are_cut()
    {
        string[] saes =
        [
            "{architecture: topk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000}",
            "{architecture: gated, expansion: 8, l1: 4, sparsityWarmup: 0, dead: resample, resampleEvery: 1280, learningRate: 0.003}",
            "{architecture: topk, expansion: 2, k: 4, seed: 9}",
        ];
        using var apart = new TempFolder();
        using var together = new TempFolder();
        foreach (string sae in saes)
        {
            Run(apart.Path, sae, new NoProgress(), CancellationToken.None, HarvestAndTrain);
        }
        // One goes ahead alone and is cut; then the three start from different steps and are cut again.
        Cut(together.Path, saes[0], updatesUntilCut: 3);
        Cut(together.Path, string.Join(", ", saes), updatesUntilCut: 8);
        Run(together.Path, string.Join(", ", saes), new NoProgress(), CancellationToken.None, HarvestAndTrain);

        var hashes = ArtifactHashes.Of(together.Path);
        hashes.Keys.Count(IsWeights).Should().Be(3);
        hashes.Should().Equal(ArtifactHashes.Of(apart.Path));
    }

    [Fact]
    public void One_that_diverges_is_told_of_and_the_others_are_finished()
    {
        using var folder = new TempFolder();
        string saes =
            "{architecture: standard, expansion: 2, l1: 1, learningRate: 1e30}, {architecture: topk, expansion: 2, k: 4}";

        var run = () => Run(folder.Path, saes, new NoProgress(), CancellationToken.None, HarvestAndTrain);

        run.Should().Throw<StageFailedException>().WithMessage("*standard-64-l1-1-lr1e+30: step*a finite loss*");
        ArtifactHashes.Of(folder.Path).Keys.Where(IsWeights).Should().ContainSingle().Which.Should().Contain("topk");
    }

    private static bool IsWeights(string name) => name.EndsWith("sae_weights.safetensors", StringComparison.Ordinal);

    private static JsonNode LastMetrics(string folder) =>
        JsonNode.Parse(File.ReadLines(Path.Combine(folder, "metrics.jsonl")).Last())!;

    private void Cut(string folder, string saes, int updatesUntilCut)
    {
        using var cancel = new CancellationTokenSource();
        int updates = 0;
        var progress = new SilentProgress(
            (task, _) =>
            {
                if (task.StartsWith("train", StringComparison.Ordinal) && ++updates == updatesUntilCut)
                {
                    cancel.Cancel();
                }
            }
        );
        FluentActions
            .Invoking(() => Run(folder, saes, progress, cancel.Token, HarvestAndTrain))
            .Should()
            .Throw<RunInterruptedException>();
    }

    private void Run(
        string folder,
        string saes,
        IProgressSink progress,
        CancellationToken cancel,
        IReadOnlySet<string>? stages = null
    )
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(
            tiny.Pipeline,
            [$"train.saes=[{saes}]", "harvest.hooks=[blocks.1.hook_resid_post]", "train.checkpointEvery=1280"]
        );
        var run = RunInputs.Open(config, tiny.Pipeline, folder, torch.CPU, cancel: cancel);
        new StageGraph(run).Make(stages ?? AllStages, new LocalExecutor(), progress, cancel);
    }
}
