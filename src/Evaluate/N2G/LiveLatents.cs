using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.N2G;

/// <summary>
/// A model's latents as it runs, without gradients:
/// <code>token lists ──> transformer up to the hook ──> activations ──> SAE ──> latents</code>
/// </summary>
internal sealed class LiveLatents(Transformer model, HookPoint hook, Autoencoder sae)
{
    private const int TokensAtATime = 4096;

    /// <summary>One latent's activation on the last token of each list; a list has at least one token.</summary>
    public float[] OfLastTokens(IReadOnlyList<int[]> lists, int latent)
    {
        var activations = new float[lists.Count];
        // Lists of like length together: a shorter one is filled up to the longest.
        int[] byLength = [.. Enumerable.Range(0, lists.Count).OrderByDescending(i => lists[i].Length)];
        for (int first = 0, count; first < byLength.Length; first += count)
        {
            count = Math.Clamp(TokensAtATime / lists[byLength[first]].Length, 1, byLength.Length - first);
            int[] chunk = byLength[first..(first + count)];
            float[] found = OfChunk([.. chunk.Select(i => lists[i])], latent);
            for (int i = 0; i < count; i++)
            {
                activations[chunk[i]] = found[i];
            }
        }
        return activations;
    }

    private float[] OfChunk(int[][] lists, int latent)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var (tokensNT, lastRowsN) = TokenLists.Batch(lists, model.Device);
        var latents = EncodeRows(tokensNT, lastRowsN);
        long[] indices = CpuKernels.ToArray<long>(latents.IndicesBK);
        float[] values = CpuKernels.ToArray<float>(latents.ValuesBK);
        int kept = indices.Length / lists.Length;
        return [.. lists.Select((_, row) => Array.IndexOf(indices, latent, row * kept, kept)).Select(Value)];

        // A row of fewer active latents names others, of activation 0.
        float Value(int at) => at < 0 ? 0 : values[at];
    }

    /// <summary>Latents of rows of [B x T].</summary>
    private SparseLatents EncodeRows(Tensor tokensBT, Tensor rowsN)
    {
        Tensor? rowsND = null;
        var reader = new ForwardHooks().Read(
            hook,
            x => rowsND = x.reshape(-1, x.shape[^1]).index_select(0, rowsN).DetachFromDisposeScope()
        );
        model.RunHooks(tokensBT, reader);
        using var owned = rowsND!;
        return sae.Encode(owned);
    }
}
