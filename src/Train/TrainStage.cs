using System.Diagnostics;
using System.Globalization;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// <code>
/// shards of one hook ──seeded order──> batches ──┬─> step ──> SAE (SAELens folder), metrics.jsonl, checkpoints/
///                                                ├─> step ──> SAE
///                                                └─> ...
/// </code>
/// The SAEs of one hook, from one reading of its activations; each has a folder, a seed, an optimizer and checkpoints of its
/// own, and ends as the same bytes whichever others learn beside it. A checkpoint holds weights, moments, counters and the
/// step; the step gives the data cursor and the schedules. Killed at any moment, the stage goes on from the checkpoints to
/// the same bytes: SAEs whose checkpoint is further wait for the others.
/// </summary>
public sealed class TrainStage
{
    /// <summary>Activations whose geometric median b_dec starts at.</summary>
    private const int InitializationRows = 8192;

    /// <summary>Steps from one word of progress to the next.</summary>
    private const int TellEvery = 10;

    private readonly RunInputs run;
    private readonly HookPoint hook;
    private readonly IProgressSink progress;

    /// <summary>The SAEs of the pass.</summary>
    private readonly List<SaeInTraining> training = [];
    private readonly List<StageFailedException> failures = [];
    private DataWaits dataWaits = new(TimeSpan.Zero, TimeSpan.Zero);

    private TrainStage(RunInputs run, HookPoint hook, IProgressSink progress) =>
        (this.run, this.hook, this.progress) = (run, hook, progress);

    /// <summary>The folder of one SAE, compared with what it would be made from now.</summary>
    public static StageFolder Folder(RunInputs run, HookPoint hook, SaeConfig sae, string harvestFingerprint)
    {
        var train = run.Config.Train;
        var config = ConfigurationJson.ToJson(sae);
        config.Remove("hooks"); // where else it is trained makes no other SAE of this one
        config["hook"] = hook.ToString();
        config["seed"] = sae.Seed ?? run.Config.Seed;
        config["orderSeed"] = run.Config.Seed;
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

    /// <param name="run">The pipeline's inputs.</param>
    /// <param name="hook">Where the activations were taken.</param>
    /// <param name="saes">What to train there, each with its folder; <see cref="TrainConfig.SaesPerPass"/> a reading.</param>
    /// <param name="progress">Told of every SAE.</param>
    /// <param name="cancel">Stops after a step.</param>
    /// <exception cref="RunInterruptedException">Cancelled; checkpoints were written first.</exception>
    /// <exception cref="StageFailedException">An SAE's loss was not finite; the others of its pass were finished first.</exception>
    public static void Run(
        RunInputs run,
        HookPoint hook,
        IReadOnlyList<(SaeConfig Sae, StageFolder Folder)> saes,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        // Transcoders read their targets too, and so make passes of their own.
        var passes = saes.GroupBy(entry => entry.Sae.Transcoder).SelectMany(g => g.Chunk(run.Config.Train.SaesPerPass));
        foreach (var pass in passes)
        {
            new TrainStage(run, hook, progress).RunPass(pass, cancel);
        }
    }

    private void RunPass((SaeConfig Sae, StageFolder Folder)[] pass, CancellationToken cancel)
    {
        foreach (var (_, folder) in pass)
        {
            folder.Begin(run.Environment, run.AllowDrift);
        }
        var target = RunInputs.TargetOf(hook, pass[0].Sae);
        using var activations = HookActivations.Open(run, hook, target, cancel);
        try
        {
            Begin(pass, activations);
            TrainOnActivations(activations, cancel);
            Finetune(target, cancel);
            training.ForEach(sae => sae.Seal(dataWaits));
            if (failures.Count > 0)
            {
                throw new StageFailedException(string.Join('\n', failures.Select(failure => failure.Message)));
            }
        }
        finally
        {
            training.ForEach(sae => sae.Dispose());
        }
    }

    /// <summary>Initial weights, or those of the last checkpoint.</summary>
    private void Begin((SaeConfig Sae, StageFolder Folder)[] pass, HookActivations activations)
    {
        using var scope = NewDisposeScope();
        var sample = activations.Sample(InitializationRows);
        foreach (var (sae, folder) in pass)
        {
            training.Add(new SaeInTraining(run, hook, sae, folder, sample));
            training[^1].RestoreCheckpoint();
        }
    }

    /// <summary>One batch after another through every SAE that is not beyond it.</summary>
    private void TrainOnActivations(HookActivations activations, CancellationToken cancel)
    {
        long step = training.Min(sae => sae.Step);
        var clock = Stopwatch.StartNew();
        using var batches = activations.Batches(step);
        for (; training.Exists(sae => sae.LearnsFromActivations); step++)
        {
            using var scope = NewDisposeScope();
            var batch = activations.OnDevice(batches.Next());
            foreach (var sae in training.Where(sae => sae.Step == step).ToList())
            {
                SetAsideIfItFails(sae, () => sae.TrainOneStep(batch, activations), cancel);
            }
            Tell();
            StopIfCancelled(cancel);
        }
        dataWaits = new DataWaits(batches.Waited, clock.Elapsed);
    }

    /// <summary>The last stretch of those that are fine-tuned, each through the model.</summary>
    private void Finetune(HookPoint target, CancellationToken cancel)
    {
        if (training.TrueForAll(sae => sae.IsDone))
        {
            return;
        }
        using var splices = new SplicedContexts(run, hook, target);
        foreach (var sae in training.Where(sae => !sae.IsDone).ToList())
        {
            foreach (var contexts in splices.Batches(sae.Finetune!.Batch, sae.FinetuneStep))
            {
                using var scope = NewDisposeScope();
                SetAsideIfItFails(sae, () => sae.FinetuneOneStep(splices.Clean(contexts)), cancel);
                Tell();
                StopIfCancelled(cancel);
                if (sae.IsDone || !training.Contains(sae))
                {
                    break;
                }
            }
        }
    }

    /// <summary>One whose loss is not finite must not stop the others.</summary>
    private void SetAsideIfItFails(SaeInTraining sae, Action step, CancellationToken cancel)
    {
        try
        {
            step();
        }
        catch (StageFailedException failure)
        {
            failures.Add(failure);
            training.Remove(sae);
            sae.Dispose();
        }
        catch (OperationCanceledException) when (cancel.IsCancellationRequested)
        {
            // While drawing inputs for a resampling, before it changed anything: the checkpoint that follows is sound.
        }
    }

    private void Tell()
    {
        if (training.Count == 0 || (training[0].Step % TellEvery != 0 && !training.TrueForAll(sae => sae.IsDone)))
        {
            return;
        }
        var (best, worst) = (training.Min(sae => sae.Fvu), training.Max(sae => sae.Fvu));
        progress.Update(
            $"train {hook} {(training is [var only] ? only.Name : $"{training.Count} SAEs")}",
            training.Sum(sae => (double)sae.TokensDone),
            training.Sum(sae => (double)sae.TokensWanted),
            "tokens",
            string.Create(CultureInfo.InvariantCulture, $"fvu {best:F4}{(worst > best ? $" to {worst:F4}" : "")}")
        );
    }

    private void StopIfCancelled(CancellationToken cancel)
    {
        if (cancel.IsCancellationRequested && training.Exists(sae => !sae.IsDone))
        {
            training.ForEach(sae => sae.SaveCheckpoint());
            throw new RunInterruptedException(
                $"train {hook}: interrupted after step {training.Min(sae => sae.Step)} of {training[0].Steps}. "
                    + "Run the command again to go on."
            );
        }
    }
}
