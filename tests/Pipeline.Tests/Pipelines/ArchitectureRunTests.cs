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
    [InlineData(
        "{architecture: topk, expansion: 2, k: 4, learningRate: 0.001, finetune: {tokens: 1280, batch: 4}}",
        "topk"
    )]
    [InlineData(
        "{architecture: gated, expansion: 2, l1: 0.5, learningRate: 0.001, finetune: {tokens: 1280, batch: 4}}",
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

    [Theory]
    [InlineData("{transcoder: true, architecture: topk, k: 8, learningRate: 0.01}", "topk")]
    [InlineData("{transcoder: true, skip: true, architecture: standard, l1: 0.1, learningRate: 0.01}", "standard")]
    [InlineData(
        "{transcoder: true, skip: true, architecture: batchtopk, k: 8, learningRate: 0.01, finetune: {tokens: 640, batch: 4}}",
        "jumprelu"
    )]
    public void A_transcoder_stands_for_the_mlp_between_its_hooks(string sae, string savedAs)
    {
        using var folder = new TempFolder();
        var hooks = "harvest.hooks=[blocks.1.hook_resid_mid, blocks.1.hook_mlp_out, blocks.0.hook_resid_post]";

        Run(folder.Path, sae, new NoProgress(), CancellationToken.None, AllStages, hooks);

        string trained = Directory.EnumerateDirectories(Path.Combine(folder.Path, "train")).Single();
        Path.GetFileName(trained).Should().Be("blocks.1.hook_resid_mid");
        string name = Path.GetFileName(Directory.EnumerateDirectories(trained).Single());
        using var file = new SaeLensFormat().Load(Path.Combine(trained, name));
        file.Origin.TargetHookName.Should().Be("blocks.1.hook_mlp_out");
        file.Sae.Architecture.Should().Be(savedAs);
        file.Sae.SubtractsDecoderBias.Should().BeFalse();
        (file.Sae.W_skip is not null).Should().Be(sae.Contains("skip: true", StringComparison.Ordinal));
        var metrics = JsonNode.Parse(
            File.ReadAllText(Path.Combine(folder.Path, "evaluate", "blocks.1.hook_resid_mid", name, "metrics.json"))
        )!;
        metrics["fvu"]!.GetValue<double>().Should().BeLessThan(0.9);
        metrics["ce_spliced"]!.GetValue<double>().Should().BeLessThan(metrics["ce_zero"]!.GetValue<double>());
    }

    [Fact]
    public void Fine_tuning_lowers_the_divergence()
    {
        using var folder = new TempFolder();
        const string Sae = "architecture: topk, expansion: 2, k: 4, learningRate: 0.001";

        Run(
            folder.Path,
            $"{{{Sae}}}, {{{Sae}, finetune: {{tokens: 12800, batch: 4, learningRate: 0.001}}}}",
            new NoProgress(),
            CancellationToken.None
        );

        double Divergence(string name) =>
            JsonNode.Parse(
                File.ReadAllText(
                    Path.Combine(folder.Path, "evaluate", "blocks.1.hook_resid_post", name, "metrics.json")
                )
            )!["kl"]!.GetValue<double>();
        Divergence("topk-64-k4-lr0.001-finetune12800").Should().BeLessThan(0.9 * Divergence("topk-64-k4-lr0.001"));
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
        IReadOnlySet<string>? stages = null,
        string hooks = "harvest.hooks=[blocks.1.hook_resid_post]"
    )
    {
        torch.set_num_threads(1);
        var config = YamlConfiguration.Load<PipelineConfig>(
            tiny.Pipeline,
            [$"train.saes=[{saes}]", hooks, "train.checkpointEvery=1280"]
        );
        var run = RunInputs.Open(config, tiny.Pipeline, folder, torch.CPU, cancel: cancel);
        new StageGraph(run).Make(stages ?? AllStages, new LocalExecutor(), progress, cancel);
    }
}
