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
    private readonly IActivationRows data;
    private readonly CancellationToken cancel;

    private HookActivations(
        RunInputs run,
        ActivationDataset inputs,
        ActivationDataset? targets,
        CancellationToken cancel
    )
    {
        (this.run, this.inputs, this.targets, this.cancel) = (run, inputs, targets, cancel);
        data = targets is null ? inputs : new PairedRows(inputs, targets);
    }

    /// <summary>Every shard's hash is compared before a byte of it is used.</summary>
    /// <param name="run">The pipeline's inputs.</param>
    /// <param name="hook">What is encoded.</param>
    /// <param name="target">What is reconstructed.</param>
    /// <param name="cancel">Stops <see cref="Draw"/>.</param>
    /// <exception cref="CorruptArtifactException">A shard is missing or altered.</exception>
    public static HookActivations Open(RunInputs run, HookPoint hook, HookPoint target, CancellationToken cancel)
    {
        var inputs = ActivationDataset.OpenHarvest(run.HarvestFolder, hook.ToString());
        try
        {
            var targets = target == hook ? null : ActivationDataset.OpenHarvest(run.HarvestFolder, target.ToString());
            return new(run, inputs, targets, cancel);
        }
        catch
        {
            inputs.Dispose();
            throw;
        }
    }

    /// <summary>The training's batches from a step on.</summary>
    public PrefetchingBatches Batches(long fromStep)
    {
        var cursor = NewCursor(data, "order");
        cursor.Seek(fromStep * run.Config.Train.Batch);
        return new PrefetchingBatches(cursor, run.Config.Train.Batch);
    }

    /// <summary>The first rows of the training's order, at most those there are; of the caller's dispose scope.</summary>
    public TrainingBatch Sample(int rows)
    {
        var sampleBD = new float[Math.Min(rows, data.Rows) * data.Width];
        NewCursor(data, "order").NextBatch(sampleBD);
        return OnDevice(sampleBD);
    }

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
            var batchBD = new float[Math.Min(run.Config.Train.Batch, wanted - cursor.RowsDrawn) * inputs.Width];
            cursor.NextBatch(batchBD);
            using var xBD = tensor(batchBD, batchBD.Length / inputs.Width, inputs.Width, device: run.Device)
                .mul_(scale);
            yield return xBD;
        }
    }

    /// <summary>Rows as tensors of the caller's dispose scope.</summary>
    public TrainingBatch OnDevice(float[] rowsBD)
    {
        var allBD = tensor(rowsBD, rowsBD.Length / data.Width, data.Width, device: run.Device);
        return targets is null
            ? new TrainingBatch(allBD)
            : new TrainingBatch(
                allBD.narrow(1, 0, inputs.Width).contiguous(),
                allBD.narrow(1, inputs.Width, targets.Width).contiguous()
            );
    }

    public void Dispose()
    {
        inputs.Dispose();
        targets?.Dispose();
    }

    private ActivationCursor NewCursor(IActivationRows rows, string purpose) =>
        new(
            rows,
            RandomStreams.Derive(run.Config.Seed, "train", purpose),
            run.Config.Train.ShuffleBlock,
            run.Config.Train.ShuffleWindow
        );
}
