using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>One SAE of a pass with its folder: trainer, schedules, metrics, checkpoints, and what is left at the end.</summary>
internal sealed class SaeInTraining : IDisposable
{
    /// <summary>Tokens, at the end of training, over which firing frequencies are taken.</summary>
    private const long FrequencyTokens = 500_000;
    private const int MetricsEvery = 10;
    private const string MetricsName = "metrics.jsonl";

    private readonly RunInputs run;
    private readonly HookPoint hook;
    private readonly SaeConfig sae;
    private readonly StageFolder stage;
    private readonly int batchRows;
    private readonly long checkpointEvery;
    private readonly ulong seed;
    private readonly double scale;
    private readonly double targetScale;
    private readonly NeuronResampling? resampling;
    private readonly long finetuneSteps;
    private readonly int finetuneRows;
    private readonly MetricsLog metrics;
    private readonly SaeTrainer trainer;
    private readonly Stopwatch clock = Stopwatch.StartNew();
    private long? lastCheckpoint;

    /// <param name="run">The pipeline's inputs.</param>
    /// <param name="hook">Where the activations were taken.</param>
    /// <param name="sae">The settings.</param>
    /// <param name="stage">The SAE's folder, begun.</param>
    /// <param name="sample">Activations that scales and initial weights are taken from.</param>
    public SaeInTraining(RunInputs run, HookPoint hook, SaeConfig sae, StageFolder stage, TrainingBatch sample)
    {
        (this.run, this.hook, this.sae, this.stage) = (run, hook, sae, stage);
        Name = Path.GetFileName(stage.Path);
        batchRows = run.Config.Train.Batch;
        checkpointEvery = Math.Max(1, (run.Config.Train.CheckpointEvery.Value + batchRows - 1) / batchRows);
        seed = sae.Seed ?? run.Config.Seed;
        Steps = Math.Max(1, run.Config.Train.Tokens.Value / batchRows);
        finetuneRows = (sae.Finetune?.Batch ?? 1) * run.Config.Harvest.Context;
        finetuneSteps = sae.Finetune is { } finetune ? Math.Max(1, finetune.Tokens.Value / finetuneRows) : 0;
        resampling = NeuronResampling.Of(sae, Steps, batchRows);
        metrics = new MetricsLog(Path.Combine(stage.Path, MetricsName));
        using var scope = NewDisposeScope();
        scale = Scale(sample.XBD);
        targetScale = Scale(sample.TargetBD);
        var learner = SaeLearners.New(
            sae,
            Scaled(sample),
            RandomStreams.Derive(seed, "train", $"decoder {hook}"),
            Steps
        );
        trainer = new SaeTrainer(SaeLearners.Recipe(sae), learner);
        clock.Stop();
    }

    /// <summary>Its folder's name.</summary>
    public string Name { get; }

    /// <summary>Tokens learnt from so far.</summary>
    public long TokensDone => Tokens(Step);

    /// <summary>Tokens in all.</summary>
    public long TokensWanted => Tokens(Steps + finetuneSteps);

    /// <summary>FVU of the batch that was last recorded.</summary>
    public double Fvu { get; private set; }

    /// <summary>Steps of the training on activations.</summary>
    public long Steps { get; }

    /// <summary>Steps done.</summary>
    public long Step => trainer.Step;

    public bool LearnsFromActivations => Step < Steps;

    public bool IsDone => Step >= Steps + finetuneSteps;

    /// <summary>Steps of the fine-tuning done.</summary>
    public long FinetuneStep => Step - Steps;

    /// <summary>Its fine-tuning, or null.</summary>
    public FinetuneConfig? Finetune => sae.Finetune;

    public void RestoreCheckpoint()
    {
        if (stage.Checkpoints.Open() is { } checkpoint)
        {
            using var file = SafetensorsFile.Open(checkpoint.Path);
            trainer.Restore(file.Load, checkpoint.Step);
            metrics.Restore(FileDigest.From(checkpoint.Words["metrics"])!);
            lastCheckpoint = checkpoint.Step;
        }
    }

    /// <param name="batch">Activations as harvested.</param>
    /// <param name="activations">Where resampled latents take their inputs from.</param>
    /// <exception cref="StageFailedException">The loss is not finite; the last checkpoint is kept.</exception>
    /// <exception cref="OperationCanceledException">Interrupted while drawing those inputs; nothing was changed.</exception>
    public void TrainOneStep(TrainingBatch batch, HookActivations activations)
    {
        clock.Start();
        if (Step == Math.Max(0, Steps - Math.Max(1, FrequencyTokens / batchRows)))
        {
            trainer.ResetFireCounts();
        }
        if (resampling is not null && resampling.IsDue(Step))
        {
            string purpose = string.Create(CultureInfo.InvariantCulture, $"resampling {Step}");
            trainer.Resample(
                resampling.WindowTokens,
                activations.Draw(resampling.FromTokens, purpose, scale),
                RandomStreams.Derive(seed, "train", purpose)
            );
        }
        double rate = sae.LearningRateFor(run.Model.Config.Width) * LearningRateSchedule.Of(sae, Step, Steps);
        var step = trainer.TrainOneStep(Scaled(batch), rate, SparsityAtStep.Of(sae, Step, Steps), IsRecorded(Step + 1));
        Record(step, rate, Step % checkpointEvery == 0);
        clock.Stop();
    }

    /// <summary>A step end to end.</summary>
    /// <param name="batch">Activations of contexts, with the divergence that reconstructions of them cause.</param>
    /// <exception cref="StageFailedException">The loss is not finite; the last checkpoint is kept.</exception>
    public void FinetuneOneStep(TrainingBatch batch)
    {
        clock.Start();
        double rate = sae.Finetune!.LearningRate * (1 - (FinetuneStep / (double)finetuneSteps));
        var scaled = Scaled(batch) with
        {
            DivergenceOf = reconstructionBD => batch.DivergenceOf!(reconstructionBD / targetScale),
        };
        var step = trainer.TrainOneStep(scaled, rate, SparsityAtStep.Of(sae, Steps - 1, Steps), IsRecorded(Step + 1));
        Record(step, rate, FinetuneStep * finetuneRows % run.Config.Train.CheckpointEvery.Value < finetuneRows);
        clock.Stop();
    }

    /// <summary>Writes where it stands, unless that is where the last checkpoint stands.</summary>
    public void SaveCheckpoint()
    {
        if (lastCheckpoint != Step)
        {
            stage.Checkpoints.Save(
                Step,
                stream => SafetensorsWriter.Write(stream, trainer.State()),
                new JsonObject { ["metrics"] = metrics.Write().ToJson() }
            );
            lastCheckpoint = Step;
        }
    }

    /// <summary>Writes the SAE, its metrics, and the manifest.</summary>
    /// <param name="waits">Of the pass it learnt in.</param>
    public void Seal(DataWaits waits)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        clock.Start();
        var origin = new SaeOrigin(
            run.Config.Model,
            hook.ToString(),
            run.Config.Harvest.Context,
            run.Config.Text,
            run.Bos != BosPolicy.None
        )
        {
            TargetHookName = sae.Transcoder ? RunInputs.TargetOf(hook, sae).ToString() : null,
        };
        var outputs = new List<ManifestOutput>(
            new SaeLensFormat().Save(
                stage.Path,
                new SaeFile(trainer.ForInference().Unscaled(scale, targetScale), origin, Training())
                {
                    FrequencyF = trainer.FiringFrequencyF(),
                }
            )
        );
        outputs.Add(ManifestOutput.Of(MetricsName, metrics.Write()));
        var results = new JsonObject
        {
            ["steps"] = Step,
            ["activation_scale"] = scale,
            ["target_scale"] = targetScale,
            ["last"] = metrics.Last!.DeepClone(),
        };
        var provenance = run.Provenance(clock.Elapsed);
        provenance["data_waits"] = waits.ToJson();
        stage.Complete(outputs, results, provenance);
    }

    public void Dispose() => trainer.Dispose();

    private double Scale(Tensor sampleBD) =>
        sae.ScaleUsed switch
        {
            ActivationScale.Unit => 1 / Math.Sqrt(sampleBD.to(float64).square().sum(-1).mean().item<double>()),
            ActivationScale.SqrtD => Math.Sqrt(sampleBD.shape[1]) / sampleBD.to(float64).norm(-1).mean().item<double>(),
            _ => 1,
        };

    private TrainingBatch Scaled(TrainingBatch batch)
    {
        var xBD = scale == 1 ? batch.XBD : batch.XBD * scale;
        return sae.Transcoder
            ? new TrainingBatch(xBD, targetScale == 1 ? batch.TargetBD : batch.TargetBD * targetScale)
            : new TrainingBatch(xBD);
    }

    private void Record(StepMetrics step, double rate, bool isCheckpoint)
    {
        if (!double.IsFinite(step.Loss))
        {
            throw new StageFailedException(
                new Fault(
                    $"train {hook} {Name}: step {Step}",
                    $"a loss of {step.Loss}",
                    "a finite loss",
                    "Lower the SAE's learningRate; the last checkpoint is kept"
                ).ToString()
            );
        }
        if (IsRecorded(Step))
        {
            Fvu = step.Fvu!.Value;
            AddMetrics(step, rate);
        }
        if (isCheckpoint && !IsDone)
        {
            SaveCheckpoint();
        }
    }

    private void AddMetrics(StepMetrics step, double rate)
    {
        var line = new JsonObject
        {
            ["step"] = Step,
            ["tokens"] = TokensDone,
            ["loss"] = step.Loss,
            ["mse"] = step.Mse,
        };
        foreach (var (name, value) in step.Terms)
        {
            line[name] = value;
        }
        line["fvu"] = step.Fvu;
        line["l0"] = step.L0;
        line["dead_fraction"] = step.Dead / (double)trainer.Sae.Features;
        if (resampling is not null)
        {
            line["resampled"] = trainer.Resampled;
        }
        line["gradient_norm"] = step.GradientNorm;
        line["learning_rate"] = rate;
        metrics.Add(line);
    }

    /// <summary>Whether metrics.jsonl has a line of where it stands after so many steps.</summary>
    private bool IsRecorded(long steps) =>
        steps % MetricsEvery == 0 || steps == Steps || steps == Steps + finetuneSteps;

    private long Tokens(long steps) =>
        (Math.Min(steps, Steps) * batchRows) + (Math.Max(0, steps - Steps) * finetuneRows);

    /// <summary>As SAELens names it.</summary>
    private SaeTraining Training() =>
        new(
            sae.Architecture switch
            {
                Architecture.MatryoshkaBatchTopK => "matryoshka_batchtopk",
                Architecture.StandardApril => "standard",
                _ => Spelling.Of(sae.Architecture),
            },
            sae.K,
            sae.Architecture == Architecture.MatryoshkaBatchTopK ? sae.GroupSizesFor(run.Model.Config.Width) : null
        );
}
