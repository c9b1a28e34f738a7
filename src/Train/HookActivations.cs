using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// A hook's harvested activations as training asks for them: in seeded orders, on its device. For transcoders each row has
/// its target beside it.
/// </summary>
internal sealed class HookActivations : IDisposable
{
    private readonly RunInputs run;
    private readonly ActivationDataset inputs;
    private readonly ActivationDataset? targets;
    private readonly CancellationToken cancel;

    private HookActivations(
        RunInputs run,
        ActivationDataset inputs,
        ActivationDataset? targets,
        CancellationToken cancel
    ) => (this.run, this.inputs, this.targets, this.cancel) = (run, inputs, targets, cancel);

    /// <summary>Every shard's hash is compared before a byte of it is used.</summary>
    /// <param name="run">The pipeline's inputs.</param>
    /// <param name="hook">What is encoded.</param>
    /// <param name="target">What is reconstructed.</param>
    /// <param name="cancel">Stops <see cref="Draw"/>.</param>
    /// <exception cref="CorruptArtifactException">A shard is missing or altered.</exception>
    public static HookActivations Open(RunInputs run, HookPoint hook, HookPoint target, CancellationToken cancel)
    {
        var inputs = ActivationDataset.OpenHarvest(run.HarvestFolder, hook.ToString());
        ActivationDataset? targets = null;
        try
        {
            targets = target == hook ? null : ActivationDataset.OpenHarvest(run.HarvestFolder, target.ToString());
            RequireSameRows(run, inputs, targets);
            return new(run, inputs, targets, cancel);
        }
        catch
        {
            inputs.Dispose();
            targets?.Dispose();
            throw;
        }
    }

    /// <summary>The training's batches from a step on.</summary>
    public PrefetchingBatches Batches(long fromStep)
    {
        var cursors = NewCursors();
        cursors.ForEach(cursor => cursor.Seek(fromStep * run.Config.Train.Batch));
        return new PrefetchingBatches(cursors, run.Config.Train.Batch);
    }

    /// <summary>The first rows of the training's order, at most those there are; of the caller's dispose scope.</summary>
    public TrainingBatch Sample(int rows) =>
        OnDevice([.. NewCursors().Select(cursor => NextBatch(cursor, Math.Min(rows, inputs.Rows)))]);

    /// <summary>
    /// Inputs [B, D] of as many tokens as asked for, at most those there are, in an order of the purpose's own; each lives
    /// until the next is asked for.
    /// </summary>
    /// <param name="tokens">Rows in all.</param>
    /// <param name="purpose">Names the order.</param>
    /// <param name="scale">What they are multiplied by.</param>
    /// <exception cref="OperationCanceledException">The run is to stop.</exception>
    public IEnumerable<Tensor> Draw(long tokens, string purpose, double scale)
    {
        var cursor = NewCursor(inputs, purpose);
        long wanted = Math.Min(tokens, inputs.Rows);
        while (cursor.RowsDrawn < wanted)
        {
            cancel.ThrowIfCancellationRequested();
            using var drawnBD = NextBatch(cursor, Math.Min(run.Config.Train.Batch, wanted - cursor.RowsDrawn));
            using var xBD = drawnBD.to(run.Device).mul_(scale);
            yield return xBD;
        }
    }

    /// <summary>A batch drawn, on the run's device; on the CPU the same memory.</summary>
    /// <param name="drawn">[B, D] of the hook, and of the target where it is another.</param>
    public TrainingBatch OnDevice(IReadOnlyList<Tensor> drawn)
    {
        var xBD = drawn[0].to(run.Device);
        return targets is null ? new TrainingBatch(xBD) : new TrainingBatch(xBD, drawn[1].to(run.Device));
    }

    public void Dispose()
    {
        inputs.Dispose();
        targets?.Dispose();
    }

    /// <summary>Of the training's order: inputs, and targets where there are any, at the same tokens.</summary>
    private List<ActivationCursor> NewCursors() =>
        [
            NewCursor(inputs, "order"),
            .. targets is null ? Array.Empty<ActivationCursor>() : [NewCursor(targets, "order")],
        ];

    private ActivationCursor NewCursor(ActivationDataset rows, string purpose) =>
        new(
            rows,
            RandomStreams.Derive(run.Config.Seed, "train", purpose),
            run.Config.Train.ShuffleBlock,
            run.Config.Train.ShuffleWindow,
            inputs.Hook
        );

    private static void RequireSameRows(RunInputs run, ActivationDataset inputs, ActivationDataset? targets)
    {
        if (targets is not null && targets.Rows != inputs.Rows)
        {
            throw new CorruptArtifactException(
                new Fault(
                    run.HarvestFolder,
                    $"{targets.Rows} rows of {targets.Hook}",
                    $"{inputs.Rows}, as of {inputs.Hook}",
                    "Run harvest again into an empty folder"
                ).ToString()
            );
        }
    }

    private static Tensor NextBatch(ActivationCursor cursor, long rows)
    {
        var batchBD = empty(rows, cursor.Width, float32, CPU);
        cursor.NextBatch(batchBD);
        return batchBD;
    }
}
