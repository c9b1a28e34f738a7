using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train.Pretraining;

/// <summary>
/// <code>
/// text ──> BPE vocabulary ──> tokens ──> Transformer, AdamW ──> Hugging Face folder
///                                           └── training/{checkpoint.json, checkpoint-STEP.safetensors, metrics.jsonl}
/// </code>
/// Trains a small language model. Killed at any moment it goes on from its last checkpoint. Memory holds the text's
/// tokens, 4 bytes each.
/// </summary>
public sealed class PretrainStage
{
    private const int MetricsEvery = 20;
    private const int HeldOutContexts = 256;

    private readonly PretrainConfig config;
    private readonly IProgressSink progress;
    private readonly CheckpointFolder checkpoints;
    private readonly MetricsLog metrics;

    private PretrainStage(PretrainConfig config, IProgressSink progress)
    {
        (this.config, this.progress) = (config, progress);
        checkpoints = new CheckpointFolder(Path.Combine(config.Out, "training"));
        metrics = new MetricsLog(Path.Combine(config.Out, "training", "metrics.jsonl"));
    }

    /// <exception cref="RunInterruptedException">Cancelled; a checkpoint was written first.</exception>
    public static void Run(PretrainConfig config, IProgressSink progress, CancellationToken cancel)
    {
        if (config.Threads is { } threads)
        {
            set_num_threads(threads);
        }
        new PretrainStage(config, progress).Run(cancel);
    }

    private void Run(CancellationToken cancel)
    {
        var source = TextSources.Open(config.Text, "text");
        var tokenizer = TrainTokenizer(source);
        var (training, heldOut) = Tokenize(source, tokenizer);
        var transformer = ModelConfig(tokenizer);
        using var model = new Transformer(
            transformer,
            TransformerInitialization.Random(transformer, (long)config.Seed)
        );
        var trainer = new LanguageModelTrainer(model, Recipe(), training);
        RestoreCheckpoint(trainer);
        TrainSteps(trainer, heldOut, cancel);
        Seal(model, trainer, training, heldOut);
    }

    /// <summary>Learns the vocabulary from the first bytes of the training documents, unless a run before this one did.</summary>
    private ITokenizer TrainTokenizer(ITextSource source)
    {
        if (!File.Exists(Path.Combine(config.Out, "tokenizer_config.json")))
        {
            var trainer = new BpeTrainer();
            foreach (var document in TrainingDocuments(source))
            {
                trainer.Add(document.Text);
                progress.Update(
                    "count words",
                    Math.Min(trainer.Bytes, config.Tokenizer.Bytes),
                    config.Tokenizer.Bytes,
                    "bytes"
                );
                if (trainer.Bytes >= config.Tokenizer.Bytes)
                {
                    break;
                }
            }
            var vocabulary = trainer.Train(config.Tokenizer.Vocabulary);
            if (vocabulary.Count < config.Tokenizer.Vocabulary)
            {
                throw new ConfigurationException(
                    new Fault(
                        "tokenizer.vocabulary",
                        $"{config.Tokenizer.Vocabulary} pieces",
                        $"at most {vocabulary.Count}, which is all this text has",
                        "Ask for fewer pieces or give more text"
                    ).ToString()
                );
            }
            AtomicFile.WriteText(Path.Combine(config.Out, "vocab.json"), vocabulary.VocabJson());
            AtomicFile.WriteText(Path.Combine(config.Out, "merges.txt"), vocabulary.MergesText());
            AtomicFile.WriteText(
                Path.Combine(config.Out, "tokenizer_config.json"),
                BpeVocabulary.TokenizerConfigJson(config.Model.Context)
            );
        }
        return Tokenizers.Load(config.Out);
    }

    private IEnumerable<Document> TrainingDocuments(ITextSource source) =>
        source.Read().Where(document => !DocumentSplit.IsHeldOut(document, config.HeldOut));

    private (int[] Training, int[] HeldOut) Tokenize(ITextSource source, ITokenizer tokenizer)
    {
        var training = new List<int>();
        var heldOut = new List<int>();
        long documents = 0;
        foreach (var document in source.Read())
        {
            var target = DocumentSplit.IsHeldOut(document, config.HeldOut) ? heldOut : training;
            target.Add(tokenizer.BosId!.Value);
            target.AddRange(tokenizer.Encode(document.Text));
            if (++documents % 100 == 0)
            {
                progress.Update("tokenize", training.Count, config.Tokens.Value, "tokens");
            }
            if (training.Count >= config.Tokens.Value)
            {
                break;
            }
        }
        if (training.Count < config.Model.Context)
        {
            throw new ConfigurationException(
                new Fault(
                    $"text: {config.Text}",
                    $"{training.Count} tokens",
                    $"at least one context of {config.Model.Context}",
                    "Give more text"
                ).ToString()
            );
        }
        progress.Say(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{documents} documents: {training.Count} tokens to train on, {heldOut.Count} held out"
            )
        );
        return ([.. training], [.. heldOut]);
    }

    private TransformerConfig ModelConfig(ITokenizer tokenizer)
    {
        var model = config.Model;
        bool isGpt2 = model.Family == "gpt2";
        return new TransformerConfig
        {
            Family = model.Family,
            Vocabulary = tokenizer.VocabularySize,
            Width = model.Width,
            Layers = model.Layers,
            Heads = model.Heads,
            KeyValueHeads = model.KvHeads ?? model.Heads,
            HeadWidth = model.Width / model.Heads,
            MlpWidth = model.Mlp,
            Context = model.Context,
            Norm = isGpt2 ? NormKind.LayerNorm : NormKind.RmsNorm,
            NormEpsilon = 1e-5,
            Activation = isGpt2 ? ActivationKind.GeluTanh : ActivationKind.Silu,
            GatedMlp = !isGpt2,
            Rotary = isGpt2 ? null : new RotaryConfig(),
            QkvBias = isGpt2,
            AttentionOutBias = isGpt2,
            MlpBias = isGpt2,
            TiedEmbeddings = model.TieEmbeddings,
            BosId = tokenizer.BosId,
            EosId = tokenizer.EosId,
        };
    }

    private LanguageModelRecipe Recipe() =>
        new()
        {
            Seed = config.Seed,
            Context = config.Model.Context,
            Batch = config.Batch,
            Steps = Math.Max(1, config.Tokens.Value / ((long)config.Batch * config.Model.Context)),
            LearningRate = config.LearningRate,
            MinimumLearningRateFraction = config.MinLearningRateFraction,
            WarmupFraction = config.WarmupFraction,
            WeightDecay = config.WeightDecay,
            Beta1 = config.Beta1,
            Beta2 = config.Beta2,
            GradientClip = config.GradientClip,
        };

    private void TrainSteps(LanguageModelTrainer trainer, int[] heldOut, CancellationToken cancel)
    {
        long tokensPerStep = (long)config.Batch * config.Model.Context;
        long steps = Recipe().Steps;
        while (trainer.Step < steps)
        {
            var (loss, norm) = trainer.TrainOneStep();
            bool checkpoint = trainer.Step % config.CheckpointEvery == 0 || trainer.Step == steps;
            if (trainer.Step % MetricsEvery == 0 || checkpoint)
            {
                RecordMetrics(trainer, tokensPerStep, loss, norm, checkpoint ? heldOut : null);
                string detail = string.Create(CultureInfo.InvariantCulture, $"ce {loss:F3}");
                progress.Update("pretrain", trainer.Step * tokensPerStep, steps * tokensPerStep, "tokens", detail);
            }
            if (checkpoint || cancel.IsCancellationRequested)
            {
                SaveCheckpoint(trainer);
            }
            if (cancel.IsCancellationRequested && trainer.Step < steps)
            {
                throw new RunInterruptedException(
                    $"{config.Out}: interrupted after step {trainer.Step} of {steps}. Run the command again to go on."
                );
            }
        }
    }

    private void RecordMetrics(
        LanguageModelTrainer trainer,
        long tokensPerStep,
        double loss,
        double norm,
        int[]? heldOut
    )
    {
        var line = new JsonObject
        {
            ["step"] = trainer.Step,
            ["tokens"] = trainer.Step * tokensPerStep,
            ["ce"] = loss,
            ["gradient_norm"] = norm,
        };
        if (heldOut is not null && heldOut.Length >= config.Model.Context)
        {
            line["held_out_ce"] = trainer.Evaluate(heldOut, HeldOutContexts);
        }
        metrics.Add(line);
    }

    private void SaveCheckpoint(LanguageModelTrainer trainer) =>
        checkpoints.Save(
            trainer.Step,
            stream => SafetensorsWriter.Write(stream, trainer.State()),
            new JsonObject
            {
                ["config"] = Identity(),
                ["environment"] = ComputeEnvironment.Of(CPU).ToJson(),
                ["metrics"] = metrics.Write().ToJson(),
            }
        );

    private void RestoreCheckpoint(LanguageModelTrainer trainer)
    {
        if (checkpoints.Open() is not { } checkpoint)
        {
            return;
        }
        if (checkpoint.Words["config"]?.GetValue<string>() != Identity())
        {
            throw new ConfigurationException(
                new Fault(
                    $"{checkpoint.Path}: config",
                    "a checkpoint of other settings",
                    "the settings of this file",
                    "Choose another out: folder, or remove this one to start again"
                ).ToString()
            );
        }
        var environment = checkpoint.Words["environment"]!.AsObject();
        if (ComputeEnvironment.Of(CPU).DifferenceFrom(environment) is { } difference)
        {
            throw new ConfigurationException(
                new Fault(
                    $"{checkpoint.Path}: {difference.Field}",
                    difference.Now,
                    $"{difference.Before}, with which this training was begun (another gives other last bits)",
                    "Run with that (threads: in the file), or remove the folder to start again"
                ).ToString()
            );
        }
        using var file = SafetensorsFile.Open(checkpoint.Path);
        trainer.Restore(file.LoadFloat32, checkpoint.Step);
        metrics.Restore(FileDigest.From(checkpoint.Words["metrics"])!);
        progress.Say($"resuming after step {checkpoint.Step}");
    }

    /// <summary>What a checkpoint belongs to: every setting that the weights depend on.</summary>
    private string Identity() =>
        ConfigurationJson.ToJson(config with { Out = ".", CheckpointEvery = 1 }).ToJsonString();

    private void Seal(Transformer model, LanguageModelTrainer trainer, int[] training, int[] heldOut)
    {
        var family = (IWrittenFamily)ModelFamily.Named(model.Config.Family, "model");
        var indented = new JsonSerializerOptions { WriteIndented = true };
        AtomicFile.Write(
            Path.Combine(config.Out, "model.safetensors"),
            stream =>
                SafetensorsWriter.Write(
                    stream,
                    [.. family.Save(model.Weights, model.Config)],
                    new Dictionary<string, string> { ["format"] = "pt" },
                    config.Dtype == WeightDtype.Float16 ? ScalarType.Float16 : ScalarType.Float32
                )
        );
        var summary = new JsonObject
        {
            ["parameters"] = model.Weights.Parameters().Sum(p => p.Value.numel()),
            ["steps"] = trainer.Step,
            ["tokens"] = trainer.Step * config.Batch * config.Model.Context,
            ["distinct_tokens"] = training.Length,
        };
        if (heldOut.Length >= config.Model.Context)
        {
            summary["held_out_ce"] = trainer.Evaluate(heldOut, int.MaxValue);
            summary["held_out_unigram_ce"] = Unigram.CrossEntropy(training, heldOut, model.Config.Vocabulary);
        }
        AtomicFile.WriteText(
            Path.Combine(config.Out, "training", "summary.json"),
            summary.ToJsonString(indented) + "\n"
        );
        var json = family.WriteConfig(model.Config);
        json["torch_dtype"] = Spelling.Of(config.Dtype);
        AtomicFile.WriteText(Path.Combine(config.Out, "config.json"), json.ToJsonString(indented) + "\n");
        progress.Say($"model written to {config.Out}: {summary.ToJsonString()}");
    }
}
