using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>A hook's harvested activations as training asks for them: in seeded orders, on its device.</summary>
internal sealed class HookActivations : IDisposable
{
    private readonly RunInputs run;
    private readonly ActivationDataset data;
    private readonly CancellationToken cancel;

    private HookActivations(RunInputs run, ActivationDataset data, CancellationToken cancel) =>
        (this.run, this.data, this.cancel) = (run, data, cancel);

    /// <summary>Every shard's hash is compared before a byte of it is used.</summary>
    /// <exception cref="CorruptArtifactException">A shard is missing or altered.</exception>
    public static HookActivations Open(RunInputs run, HookPoint hook, CancellationToken cancel) =>
        new(run, ActivationDataset.OpenHarvest(run.HarvestFolder, hook.ToString()), cancel);

    /// <summary>The training's batches from a step on.</summary>
    public PrefetchingBatches Batches(long fromStep)
    {
        var cursor = NewCursor("order");
        cursor.Seek(fromStep * run.Config.Train.Batch);
        return new PrefetchingBatches(cursor, run.Config.Train.Batch);
    }

    /// <summary>The first rows of the training's order, at most those there are, [B, D].</summary>
    public Tensor Sample(int rows)
    {
        var sampleBD = new float[Math.Min(rows, data.Rows) * data.Width];
        NewCursor("order").NextBatch(sampleBD);
        return OnDevice(sampleBD);
    }

    /// <summary>
    /// Batches [B, D] of as many tokens as asked for, at most those there are, in an order of the purpose's own; each lives
    /// until the next is asked for.
    /// </summary>
    /// <param name="tokens">Rows in all.</param>
    /// <param name="purpose">Names the order.</param>
    /// <param name="scale">What they are multiplied by.</param>
    /// <exception cref="OperationCanceledException">The run is to stop.</exception>
    public IEnumerable<Tensor> Draw(long tokens, string purpose, double scale)
    {
        var cursor = NewCursor(purpose);
        long wanted = Math.Min(tokens, data.Rows);
        while (cursor.RowsDrawn < wanted)
        {
            cancel.ThrowIfCancellationRequested();
            var batchBD = new float[Math.Min(run.Config.Train.Batch, wanted - cursor.RowsDrawn) * data.Width];
            cursor.NextBatch(batchBD);
            using var xBD = OnDevice(batchBD).mul_(scale);
            yield return xBD;
        }
    }

    /// <summary>Rows as a tensor [B, D].</summary>
    public Tensor OnDevice(float[] rowsBD) =>
        tensor(rowsBD, rowsBD.Length / data.Width, data.Width, device: run.Device);

    public void Dispose() => data.Dispose();

    private ActivationCursor NewCursor(string purpose) =>
        new(
            data,
            RandomStreams.Derive(run.Config.Seed, "train", purpose),
            run.Config.Train.ShuffleBlock,
            run.Config.Train.ShuffleWindow
        );
}
