using Pipeline.Shared.Activations;
using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// One hook's harvested activations, which no evaluated token is among: what baselines are fitted to. Rows are read in blocks
/// spread evenly over the harvest, so that memory is a block's and no part of the text is left out.
/// </summary>
internal sealed class TrainingActivations(ActivationDataset activations) : IDisposable
{
    private const int RowsAtATime = 1024;

    /// <summary>Rows that decide how many latents an SAE has active.</summary>
    private const int RowsForL0 = 8192;

    /// <summary>Rows a covariance is taken over: enough for any width up to 1,024, and as many a dimension beyond.</summary>
    private const int RowsForCovariance = 32_768;
    private const long RowsADimension = 32;

    public int Width => activations.Width;

    /// <exception cref="Pipeline.Shared.CorruptArtifactException">A shard is missing or altered.</exception>
    public static TrainingActivations Open(string harvestFolder, string hook) =>
        new(ActivationDataset.OpenHarvest(harvestFolder, hook));

    /// <summary>Mean number of non-zero latents, rounded; at least 1.</summary>
    /// <param name="sae">Whose.</param>
    /// <param name="device">Where it is.</param>
    /// <param name="stopIfCancelled">Called between blocks.</param>
    public int RoundedL0(Autoencoder sae, Device device, Action stopIfCancelled)
    {
        double active = 0;
        long rows = 0;
        foreach (var blockND in Blocks(RowsForL0))
        {
            stopIfCancelled();
            using var scope = NewDisposeScope();
            active += (sae.Encode(blockND.to(device)).ValuesBK != 0).sum().item<long>();
            rows += blockND.shape[0];
        }
        return Math.Max(1, (int)Math.Round(active / rows, MidpointRounding.AwayFromZero));
    }

    /// <param name="stopIfCancelled">Called between blocks.</param>
    public PrincipalComponents Components(Action stopIfCancelled) =>
        PrincipalComponents.Fit(Blocks(Math.Max(RowsForCovariance, RowsADimension * Width)), stopIfCancelled);

    public void Dispose() => activations.Dispose();

    /// <summary>float32 [n, D] on the CPU; each is disposed when the next is asked for.</summary>
    private IEnumerable<Tensor> Blocks(long wanted)
    {
        long blocks = (activations.Rows + RowsAtATime - 1) / RowsAtATime;
        long taken = Math.Min(blocks, (wanted + RowsAtATime - 1) / RowsAtATime);
        var rows = new float[RowsAtATime * Width];
        for (long i = 0; i < taken; i++)
        {
            long first = i * blocks / taken * RowsAtATime;
            int count = (int)Math.Min(RowsAtATime, activations.Rows - first);
            activations.CopyRows(first, count, rows.AsSpan(0, count * Width));
            // No dispose scope of its own: it would be open while the caller's own come and go.
            using var blockND = tensor(rows.AsSpan(0, count * Width).ToArray(), count, Width).DetachFromDisposeScope();
            yield return blockND;
        }
    }
}
