using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
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

/// <summary>
/// <code>
/// shards of one hook ──seeded order──> batches ──> step ──> SAE (SAELens folder)
///                                                      └── metrics.jsonl, checkpoints/
/// </code>
/// One SAE at one hook. A checkpoint holds weights, moments, counters and the step; the step gives the data cursor and the
/// learning rate. Killed at any moment, the stage goes on from its last checkpoint to the same bytes.
/// </summary>
public sealed class TrainStage
{
    /// <summary>Activations whose geometric median b_dec starts at.</summary>
    private const int InitializationRows = 8192;

    /// <summary>Tokens, at the end of training, over which firing frequencies are taken.</summary>
    private const long FrequencyTokens = 500_000;
    private const int MetricsEvery = 10;
    private const string MetricsName = "metrics.jsonl";

    private readonly RunInputs run;
    private readonly HookPoint hook;
    private readonly SaeConfig sae;
    private readonly StageFolder stage;
    private readonly IProgressSink progress;
    private readonly string folder;
    private readonly long steps;
    private readonly ulong seed;
    private readonly MetricsLog metrics;
    private readonly CheckpointFolder checkpoints;

    private TrainStage(RunInputs run, HookPoint hook, SaeConfig sae, StageFolder stage, IProgressSink progress)
    {
        (this.run, this.hook, this.sae, this.stage, this.progress) = (run, hook, sae, stage, progress);
        folder = stage.Path;
        metrics = new MetricsLog(Path.Combine(folder, MetricsName));
        checkpoints = stage.Checkpoints;
        seed = sae.Seed ?? run.Config.Seed;
        steps = Math.Max(1, run.Config.Train.Tokens.Value / run.Config.Train.Batch);
    }

    private string Task => $"train {hook} {Path.GetFileName(folder)}";

    /// <summary>The stage's folder, compared with what it would be made from now.</summary>
    public static StageFolder Folder(RunInputs run, HookPoint hook, SaeConfig sae, string harvestFingerprint)
    {
        var train = run.Config.Train;
        var config = ConfigurationJson.ToJson(sae);
        config["hook"] = hook.ToString();
        config["seed"] = sae.Seed ?? run.Config.Seed;
        config["tokens"] = train.Tokens.Value;
        config["batch"] = train.Batch;
        config["shuffleBlock"] = train.ShuffleBlock;
        config["shuffleWindow"] = train.ShuffleWindow;
        return new StageFolder(
            run.SaeFolder(hook, sae),
            "train",
            config,
            [new ManifestInput("harvest", "harvest", harvestFingerprint)]
        );
    }

    /// <exception cref="RunInterruptedException">Cancelled; a checkpoint was written first.</exception>
    public static void Run(
        RunInputs run,
        HookPoint hook,
        SaeConfig sae,
        StageFolder folder,
        IProgressSink progress,
        CancellationToken cancel
    ) => new TrainStage(run, hook, sae, folder, progress).Run(cancel);

    private void Run(CancellationToken cancel)
    {
        var clock = Stopwatch.StartNew();
        stage.Begin(run.Environment, run.AllowDrift);
        // Every shard's hash is compared before a byte of it is used.
        using var data = ActivationDataset.OpenHarvest(run.HarvestFolder, hook.ToString());
        var (trainer, scale) = NewTrainer(data);
        using var disposed = trainer;
        RestoreCheckpoint(trainer);
        var cursor = OpenCursor(data);
        cursor.Seek(trainer.Step * run.Config.Train.Batch);
        using (var batches = new PrefetchingBatches(cursor, run.Config.Train.Batch))
        {
            TrainSteps(trainer, scale, batches, cancel);
        }
        Seal(trainer, scale, clock.Elapsed);
    }

    private ActivationCursor OpenCursor(ActivationDataset data) =>
        new(
            data,
            RandomStreams.Derive(seed, "train", "order"),
            run.Config.Train.ShuffleBlock,
            run.Config.Train.ShuffleWindow
        );

    /// <summary>A trainer with initial weights, and the factor its activations are multiplied by.</summary>
    private (SaeTrainer Trainer, double Scale) NewTrainer(ActivationDataset data)
    {
        using var scope = NewDisposeScope();
        int rows = (int)Math.Min(InitializationRows, data.Rows);
        var sample = new float[rows * data.Width];
        OpenCursor(data).NextBatch(sample);
        var sampleBD = OnDevice(sample, rows);
        double factor = Scale(sampleBD);
        var learner = SaeLearners.New(
            sae,
            factor == 1 ? sampleBD : sampleBD * factor,
            RandomStreams.Derive(seed, "train", $"decoder {hook}"),
            steps
        );
        return (new SaeTrainer(SaeLearners.Recipe(sae), learner), factor);
    }

    private double Scale(Tensor sampleBD) =>
        sae.ScaleUsed switch
        {
            ActivationScale.Unit => 1 / Math.Sqrt(sampleBD.to(float64).square().sum(-1).mean().item<double>()),
            ActivationScale.SqrtD => Math.Sqrt(sampleBD.shape[1]) / sampleBD.to(float64).norm(-1).mean().item<double>(),
            _ => 1,
        };

    private Tensor OnDevice(float[] rowsBD, int rows) => tensor(rowsBD, rows, rowsBD.Length / rows, device: run.Device);

    private void TrainSteps(SaeTrainer trainer, double scale, PrefetchingBatches batches, CancellationToken cancel)
    {
        int batch = run.Config.Train.Batch;
        long checkpointEvery = Math.Max(1, (run.Config.Train.CheckpointEvery.Value + batch - 1) / batch);
        long frequencyFrom = Math.Max(0, steps - Math.Max(1, FrequencyTokens / batch));
        while (trainer.Step < steps)
        {
            using var scope = NewDisposeScope();
            if (trainer.Step == frequencyFrom)
            {
                trainer.ResetFireCounts();
            }
            double rate = LearningRate(trainer.Step);
            var xBD = OnDevice(batches.Next(), batch);
            var step = trainer.TrainOneStep(scale == 1 ? xBD : xBD * scale, rate, SparsityScale(trainer.Step));
            Record(trainer, step, rate, batch);
            bool interrupted = cancel.IsCancellationRequested && trainer.Step < steps;
            if (interrupted || (trainer.Step % checkpointEvery == 0 && trainer.Step < steps))
            {
                SaveCheckpoint(trainer);
            }
            if (interrupted)
            {
                throw new RunInterruptedException(
                    $"{Task}: interrupted after step {trainer.Step} of {steps}. Run the command again to go on."
                );
            }
        }
    }

    private double LearningRate(long step) =>
        sae.LearningRateFor(run.Model.Config.Width)
        * LearningRateSchedule.WarmupThenDecay(step, steps, (long)(sae.Warmup * steps), (long)(sae.Decay * steps));

    private double SparsityScale(long step) =>
        LearningRateSchedule.WarmupThenDecay(step, steps, (long)(sae.SparsityWarmup * steps), 0);

    private void Record(SaeTrainer trainer, StepMetrics step, double rate, int batch)
    {
        if (!double.IsFinite(step.Loss))
        {
            throw new StageFailedException(
                new Fault(
                    $"{Task}: step {trainer.Step}",
                    $"a loss of {step.Loss}",
                    "a finite loss",
                    "Lower the SAE's learningRate; the last checkpoint is kept"
                ).ToString()
            );
        }
        if (trainer.Step % MetricsEvery != 0 && trainer.Step != steps)
        {
            return;
        }
        var line = new JsonObject
        {
            ["step"] = trainer.Step,
            ["tokens"] = trainer.Step * batch,
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
        line["gradient_norm"] = step.GradientNorm;
        line["learning_rate"] = rate;
        metrics.Add(line);
        progress.Update(
            Task,
            trainer.Step * (double)batch,
            steps * (double)batch,
            "tokens",
            string.Create(CultureInfo.InvariantCulture, $"fvu {step.Fvu:F4}")
        );
    }

    private void SaveCheckpoint(SaeTrainer trainer) =>
        checkpoints.Save(
            trainer.Step,
            stream => SafetensorsWriter.Write(stream, trainer.State()),
            new JsonObject { ["metrics"] = metrics.Write().ToJson() }
        );

    private void RestoreCheckpoint(SaeTrainer trainer)
    {
        if (checkpoints.Open() is { } checkpoint)
        {
            using var file = SafetensorsFile.Open(checkpoint.Path);
            trainer.Restore(file.Load, checkpoint.Step);
            metrics.Restore(FileDigest.From(checkpoint.Words["metrics"])!);
        }
    }

    private void Seal(SaeTrainer trainer, double scale, TimeSpan wall)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var origin = new SaeOrigin(
            run.Config.Model,
            hook.ToString(),
            run.Config.Harvest.Context,
            run.Config.Text,
            run.Bos != BosPolicy.None
        );
        var outputs = new List<ManifestOutput>(
            new SaeLensFormat().Save(
                folder,
                new SaeFile(trainer.ForInference().Unscaled(scale), origin, Training())
                {
                    FrequencyF = trainer.FiringFrequencyF(),
                }
            )
        );
        outputs.Add(ManifestOutput.Of(MetricsName, metrics.Write()));
        var results = new JsonObject
        {
            ["steps"] = steps,
            ["activation_scale"] = scale,
            ["last"] = metrics.Last!.DeepClone(),
        };
        stage.Complete(outputs, results, run.Provenance(wall));
    }

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
