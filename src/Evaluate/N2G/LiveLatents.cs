using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
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

    /// <summary>Some latents' activations on every token of contexts of one length, [latent][B x T].</summary>
    public float[][] OfContexts(PackedContext[] batch, IReadOnlyList<int> indices)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var latents = EncodeRows(ContextTensor.Of(batch, model.Device), null);
        return Of(latents, indices);
    }

    /// <summary>One latent's activation on the last token of each list; a list has at least one token.</summary>
    public float[] OfLastTokens(IReadOnlyList<int[]> lists, int latent)
    {
        var activations = new List<float>();
        int longest = lists.Max(list => list.Length);
        foreach (var chunk in lists.Chunk(Math.Max(1, TokensAtATime / longest)))
        {
            activations.AddRange(OfChunk(chunk, latent));
        }
        return [.. activations];
    }

    private float[] OfChunk(int[][] lists, int latent)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        int positions = lists.Max(list => list.Length);
        // What follows a list's last token does not matter to a causal model.
        long[] ids = [.. lists.SelectMany(list => Enumerable.Range(0, positions).Select(t => (long)At(list, t)))];
        long[] lastRows = [.. lists.Select((list, i) => ((long)i * positions) + list.Length - 1)];
        var tokensNT = tensor(ids, lists.Length, positions, device: model.Device);
        return Of(EncodeRows(tokensNT, tensor(lastRows, device: model.Device)), [latent])[0];
    }

    /// <summary>Latents of the rows of [B x T] asked for, or of all.</summary>
    private SparseLatents EncodeRows(Tensor tokensBT, Tensor? rowsN)
    {
        Tensor? rowsND = null;
        var reader = new ForwardHooks().Read(
            hook,
            x =>
            {
                var rows = x.reshape(-1, x.shape[^1]);
                rowsND = (rowsN is null ? rows.clone() : rows.index_select(0, rowsN)).DetachFromDisposeScope();
            }
        );
        model.RunHooks(tokensBT, reader);
        using var owned = rowsND!;
        return sae.Encode(owned);
    }

    /// <summary>Of each latent asked for its activation in each row.</summary>
    private static float[][] Of(SparseLatents latents, IReadOnlyList<int> wanted)
    {
        long[] indices = CpuKernels.ToArray<long>(latents.IndicesBK);
        float[] values = CpuKernels.ToArray<float>(latents.ValuesBK);
        var (rows, kept) = ((int)latents.IndicesBK.shape[0], (int)latents.IndicesBK.shape[1]);
        var places = new Dictionary<long, int>(wanted.Select((latent, i) => KeyValuePair.Create((long)latent, i)));
        float[][] activations = [.. wanted.Select(_ => new float[rows])];
        for (int entry = 0; entry < indices.Length; entry++)
        {
            if (values[entry] != 0 && places.TryGetValue(indices[entry], out int place))
            {
                activations[place][entry / kept] = values[entry];
            }
        }
        return activations;
    }

    private static int At(int[] list, int t) => list[Math.Min(t, list.Length - 1)];
}
