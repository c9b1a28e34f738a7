using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Pipelines;
using Pipeline.Train.Pretraining;

namespace Pipeline.Tests.Train;

public sealed class PretrainTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    [Fact]
    public void Interrupted_training_ends_in_the_same_weights()
    {
        TorchSharp.torch.set_num_threads(1);
        using var folder = new TempFolder();
        var whole = tiny.Pretrain(folder.File("whole"));
        PretrainStage.Run(whole, new SilentProgress(), CancellationToken.None);
        var cut = tiny.Pretrain(folder.File("cut"));
        using var cancel = new CancellationTokenSource();
        var progress = new SilentProgress(
            (task, _) =>
            {
                if (task == "pretrain")
                    cancel.Cancel();
            }
        );

        ((Action)(() => PretrainStage.Run(cut, progress, cancel.Token))).Should().Throw<RunInterruptedException>();
        PretrainStage.Run(cut, new SilentProgress(), CancellationToken.None);

        foreach (
            string name in new[]
            {
                "model.safetensors",
                "vocab.json",
                "training/metrics.jsonl",
                "training/summary.json",
            }
        )
        {
            AtomicFile
                .Digest(Path.Combine(cut.Out, name))
                .Should()
                .Be(AtomicFile.Digest(Path.Combine(whole.Out, name)), name);
        }
    }

    [Fact]
    public void The_model_learns()
    {
        var summary = JsonNode.Parse(File.ReadAllText(Path.Combine(tiny.Model, "training", "summary.json")))!;

        summary["held_out_ce"]!
            .GetValue<double>()
            .Should()
            .BeLessThan(0.9 * summary["held_out_unigram_ce"]!.GetValue<double>());
    }

    [Fact]
    public void The_trained_vocabulary_encodes_its_text_and_gives_it_back()
    {
        var tokenizer = Tokenizers.Load(tiny.Model);
        const string Text = "The river follows the stone. Überraschung, 東京 🙂\n";

        tokenizer.BosId.Should().Be(0);
        tokenizer.VocabularySize.Should().Be(300);
        tokenizer.Decode(tokenizer.Encode(Text)).Should().Be(Text);
        tokenizer.Encode("The river follows").Count.Should().BeLessThan(10);
    }

    [Fact]
    public void Merges_are_the_most_frequent_pairs_ties_to_the_lower_ids()
    {
        var trainer = new BpeTrainer();
        trainer.Add("aaab aaab ab");

        var merges = trainer.Train(257 + 3).MergesText().Split('\n', StringSplitOptions.RemoveEmptyEntries);

        // Words: "aaab" once, " aaab" once, " ab" once. Pairs: a+a 4, a+b 3, space+a 2.
        merges[1..].Should().Equal("a a", "a b", "aa ab");
    }
}
