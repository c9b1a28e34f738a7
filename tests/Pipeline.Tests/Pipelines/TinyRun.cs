using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Train.Pretraining;

namespace Pipeline.Tests.Pipelines;

/// <summary>
/// A whole pipeline of seconds: a two-layer model pretrained for a few steps on made-up text, and a pipeline file that
/// harvests two hooks of it. Made once for all tests that share it.
/// </summary>
public sealed class TinyRun : IDisposable
{
    private readonly TempFolder folder = new();

    public TinyRun()
    {
        Text = folder.Write("text.jsonl", string.Concat(Enumerable.Range(0, 60).Select(i => Line(i) + "\n")));
        Model = folder.File("model");
        PretrainStage.Run(Pretrain(Model), new SilentProgress(), CancellationToken.None);
        Pipeline = folder.Write(
            "pipeline.yaml",
            $$"""
            name: tiny
            seed: 3
            model: {{Model}}
            text: {{Text}}
            harvest: {heldOut: 0.3, hooks: [blocks.0.hook_resid_post, blocks.-1.hook_resid_post], context: 32, tokens: 3000, shardTokens: 512, batch: 4}
            train: {tokens: 6400, batch: 128, checkpointEvery: 640, shuffleBlock: 8, shuffleWindow: 256, saes: [{architecture: topk, expansion: 2, k: 4, learningRate: 0.001, deadAfter: 1000}]}
            evaluate: {tokens: 500, batch: 4, checkpointEvery: 256, n2g: 3}
            report: {features: 8}
            """
        );
    }

    public string Text { get; }

    public string Model { get; }

    public string Pipeline { get; }

    public PretrainConfig Pretrain(string outFolder) =>
        new()
        {
            Name = "tiny",
            Text = Text,
            Out = outFolder,
            Tokens = new(32 * 4 * 60),
            Batch = 4,
            LearningRate = 1e-2,
            CheckpointEvery = 10,
            HeldOut = 0.3,
            Tokenizer = new() { Vocabulary = 300, Bytes = 100_000 },
            Model = new()
            {
                Width = 32,
                Layers = 2,
                Heads = 4,
                KvHeads = 2,
                Mlp = 48,
                Context = 32,
            },
        };

    public void Dispose() => folder.Dispose();

    /// <summary>Text with enough order in it to be learnt.</summary>
    private static string Line(int i)
    {
        string[] things = ["river", "stone", "cloud", "field", "lamp", "road", "tower"];
        string[] deeds = ["follows", "meets", "leaves", "covers", "hides"];
        var words = new Xoshiro256((ulong)i);
        string text = string.Join(
            ' ',
            Enumerable
                .Range(0, 14)
                .Select(_ =>
                    $"The {things[words.NextInt(7)]} {deeds[words.NextInt(5)]} the {things[words.NextInt(7)]}."
                )
        );
        return $$"""{"id": "{{i}}", "title": "Text {{i}}", "text": "{{text}}"}""";
    }
}

/// <summary>Progress nobody watches; calls back at every report, so that a test can stop work there.</summary>
internal sealed class SilentProgress(Action<string, double>? onUpdate = null, Action<string>? onSay = null)
    : IProgressSink
{
    public void Update(string task, double done, double total, string unit, string detail = "") =>
        onUpdate?.Invoke(task, done);

    public void Say(string line) => onSay?.Invoke(line);
}
