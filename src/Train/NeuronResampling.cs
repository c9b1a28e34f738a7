using Pipeline.Shared.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// When latents are resampled and from how much (Bricken et al. 2023, Towards Monosemanticity, "Neuron Resampling"). Pure
/// functions of the step.
/// </summary>
/// <param name="Every">Steps between resamplings; at the first step of each such stretch but the very first.</param>
/// <param name="Times">How often in all.</param>
/// <param name="WindowTokens">Tokens without firing that make a latent dead: those of the stretch's second half.</param>
/// <param name="FromTokens">Tokens whose losses are computed.</param>
internal sealed record NeuronResampling(long Every, int Times, long WindowTokens, long FromTokens)
{
    /// <summary>Norm of a new encoder row, as a share of the mean norm of the living.</summary>
    public const double EncoderShare = 0.2;

    /// <summary>The settings' resampling; null where they ask for none.</summary>
    /// <param name="sae">The settings.</param>
    /// <param name="total">Steps of the whole training.</param>
    /// <param name="batch">Tokens a step.</param>
    public static NeuronResampling? Of(SaeConfig sae, long total, int batch)
    {
        if (sae.DeadUsed != DeadLatents.Resample)
        {
            return null;
        }
        long every = Math.Max(1, (sae.ResampleEvery?.Value ?? (total * batch / 8)) / batch);
        return new(every, sae.Resamplings, Math.Max(1, every / 2) * batch, sae.ResampleFrom.Value);
    }

    /// <summary>Whether latents are resampled before this step.</summary>
    public bool IsDue(long step) => step > 0 && step % Every == 0 && step / Every <= Times;

    /// <summary>
    /// Draws rows without replacement, each time with probability in proportion to the square of its loss, in one pass: the
    /// largest of u^(1/w) (Efraimidis and Spirakis 2006), u uniform and w the square.
    /// </summary>
    /// <param name="batches">Activations [B, D]; each lives until the next is asked for.</param>
    /// <param name="lossB">Their losses [B].</param>
    /// <param name="count">N, rows wanted; fewer where there are fewer rows with a loss above 0.</param>
    /// <param name="seed">Of the draws.</param>
    /// <returns>[N, D]</returns>
    public static Tensor Draw(IEnumerable<Tensor> batches, Func<Tensor, Tensor> lossB, long count, ulong seed)
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(seed, CPU);
        Tensor? keysN = null;
        Tensor? rowsND = null;
        foreach (var xBD in batches)
        {
            using var inner = NewDisposeScope();
            var uniformB = rand(xBD.shape[0], dtype: float64, generator: generator).to(xBD.device);
            var keysB = uniformB.log() / lossB(xBD).to(float64).square(); // -∞, never drawn, where there is no loss
            var candidatesM = keysN is null ? keysB : cat([keysN, keysB]);
            var candidatesMD = rowsND is null ? xBD : cat([rowsND, xBD]);
            var (bestN, placesN) = candidatesM.topk((int)Math.Min(count, candidatesM.shape[0]));
            var kept = bestN > double.NegativeInfinity;
            (var oldKeys, var oldRows) = (keysN, rowsND);
            keysN = bestN.masked_select(kept).MoveToOuterDisposeScope();
            rowsND = candidatesMD.index_select(0, placesN.masked_select(kept)).MoveToOuterDisposeScope();
            oldKeys?.Dispose();
            oldRows?.Dispose();
        }
        return rowsND?.MoveToOuterDisposeScope() ?? throw new ArgumentException("There is nothing to draw from.");
    }
}
