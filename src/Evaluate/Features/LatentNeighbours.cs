using System.Buffers;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.Features;

/// <summary>Another latent, and how near it is.</summary>
internal readonly record struct Neighbour(int Latent, float Value);

/// <summary>The latents nearest to a latent, itself left out, the nearest first.</summary>
/// <param name="decoderFD">The decoder; stays the caller's.</param>
/// <param name="sample">Activations.</param>
internal sealed class LatentNeighbours(Tensor decoderFD, SampledActivations sample) : IDisposable
{
    /// <summary>Given of each latent, at most.</summary>
    public const int Most = 8;

    /// <summary>A row of zeros has no direction: its cosine is 0 with every other.</summary>
    private readonly Tensor normsF = decoderFD.norm(1).clamp_min(1e-30).DetachFromDisposeScope();

    /// <summary>By the cosine of decoder rows; of some latents at a time, so that never [F, F] comes to be.</summary>
    public IReadOnlyList<Neighbour[]> ByCosine(IReadOnlyList<int> latents)
    {
        using var scope = NewDisposeScope();
        int count = (int)Math.Min(Most, decoderFD.shape[0] - 1);
        if (count == 0)
        {
            return [.. latents.Select(_ => Array.Empty<Neighbour>())];
        }
        var ownL = tensor(latents.Select(latent => (long)latent).ToArray(), device: decoderFD.device);
        var cosinesLF = decoderFD.index_select(0, ownL).matmul(decoderFD.t());
        cosinesLF.div_(normsF.index_select(0, ownL).unsqueeze(1)).div_(normsF);
        var noneL1 = full(latents.Count, 1, float.NegativeInfinity, device: decoderFD.device);
        cosinesLF.scatter_(1, ownL.unsqueeze(1), noneL1);
        var (valuesLN, indicesLN) = cosinesLF.topk(count, 1);
        float[] values = CpuKernels.ToArray<float>(valuesLN);
        long[] indices = CpuKernels.ToArray<long>(indicesLN);
        return
        [
            .. latents.Select(
                (_, l) =>
                    Enumerable
                        .Range(l * count, count)
                        .Select(at => new Neighbour((int)indices[at], values[at]))
                        .ToArray()
            ),
        ];
    }

    /// <summary>
    /// By the tokens both fire on, of those at least one does (Jaccard's index), over a sample; latents that never fire
    /// together are not near.
    /// </summary>
    public Neighbour[] ByCoactivation(int latent)
    {
        int[] togetherF = ArrayPool<int>.Shared.Rent(sample.Features);
        Array.Clear(togetherF);
        var others = new List<int>();
        foreach (int row in sample.RowsOf(latent))
        {
            foreach (int other in sample.LatentsOf(row))
            {
                if (togetherF[other]++ == 0 && other != latent)
                {
                    others.Add(other);
                }
            }
        }
        int own = sample.RowsOf(latent).Length;
        Neighbour[] nearest =
        [
            .. others
                .Select(other => new Neighbour(
                    other,
                    togetherF[other] / (float)(own + sample.RowsOf(other).Length - togetherF[other])
                ))
                .OrderByDescending(neighbour => neighbour.Value)
                .ThenBy(neighbour => neighbour.Latent)
                .Take(Most),
        ];
        ArrayPool<int>.Shared.Return(togetherF);
        return nearest;
    }

    public void Dispose() => normsF.Dispose();
}
