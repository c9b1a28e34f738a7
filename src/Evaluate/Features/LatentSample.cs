using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.Features;

/// <summary>A context and the latents that fire on each of its T tokens.</summary>
/// <param name="Number">Among all contexts that came by.</param>
/// <param name="Text">Its tokens.</param>
/// <param name="Starts">[T + 1]; where each token's latents begin.</param>
/// <param name="Latents">Of all tokens, one token after the other, ascending; none of a BOS.</param>
/// <param name="Values">Their activations, above 0.</param>
internal sealed record SampledContext(long Number, PackedContext Text, int[] Starts, int[] Latents, float[] Values)
{
    /// <summary>In units of 8 bytes: an entry is latent and activation, a token is id, document, position and start.</summary>
    public long Size => Latents.Length + (2L * Text.Tokens.Length);
}

/// <summary>
/// The sparse latents of whole contexts, chosen evenly from all that come by, in bounded memory: those whose hash lies below
/// a limit, which is lowered whenever they would take more than the budget. As long as everything fits, nothing is left out.
/// Which contexts are kept depends on seed and text alone, not on how the text was cut into batches. On BOS nothing counts as
/// firing, as in <see cref="FeatureExamples"/>.
/// </summary>
internal sealed class LatentSample(ulong seed, int? bos, long budget = LatentSample.DefaultBudget)
{
    /// <summary>Of <see cref="SampledContext.Size"/>; 32 MB.</summary>
    public const long DefaultBudget = 1 << 22;

    /// <summary>The largest hash first.</summary>
    private readonly PriorityQueue<SampledContext, ulong> kept = new(Comparer<ulong>.Create((a, b) => b.CompareTo(a)));
    private ulong limit = ulong.MaxValue;
    private long size;
    private long contexts;

    /// <summary>In the text's order.</summary>
    public IReadOnlyList<SampledContext> Contexts =>
        [.. kept.UnorderedItems.Select(item => item.Element).OrderBy(context => context.Number)];

    /// <param name="batch">Contexts of T tokens.</param>
    /// <param name="indices">[B x T, K], row-major.</param>
    /// <param name="values">[B x T, K], row-major.</param>
    public void Add(PackedContext[] batch, long[] indices, float[] values)
    {
        int entries = indices.Length / batch.Length;
        for (int b = 0; b < batch.Length; b++)
        {
            long number = contexts++;
            if (HashOf(number) < limit)
            {
                Keep(Sparse(number, batch[b], indices.AsSpan(b * entries, entries), values.AsSpan(b * entries)));
            }
        }
    }

    /// <summary>Everything kept so far, by name. C contexts of T tokens, E entries.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State()
    {
        var all = Contexts;
        Tensor Ints(Func<SampledContext, int[]> part) => tensor(all.SelectMany(part).ToArray());
        return
        [
            ("limits", tensor(new[] { unchecked((long)limit), contexts })),
            ("numbers", tensor(all.Select(context => context.Number).ToArray())),
            ("tokens", Ints(context => context.Text.Tokens)),
            ("documents", Ints(context => context.Text.Documents)),
            ("positions", Ints(context => context.Text.Positions)),
            ("fired", Ints(context => Differences(context.Starts))),
            ("latents", Ints(context => context.Latents)),
            ("values", tensor(all.SelectMany(context => context.Values).ToArray())),
        ];
    }

    public void Restore(Func<string, Tensor> load)
    {
        using var scope = NewDisposeScope();
        int[] Ints(string name) => CpuKernels.ToArray<int>(load(name));
        long[] limits = CpuKernels.ToArray<long>(load("limits"));
        long[] numbers = CpuKernels.ToArray<long>(load("numbers"));
        int[] tokens = Ints("tokens");
        int[] documents = Ints("documents");
        int[] positions = Ints("positions");
        int[] fired = Ints("fired");
        int[] latents = Ints("latents");
        float[] values = CpuKernels.ToArray<float>(load("values"));
        kept.Clear();
        size = 0;
        int entries = 0;
        for (int c = 0; c < numbers.Length; c++)
        {
            int length = tokens.Length / numbers.Length;
            var own = new Range(c * length, (c + 1) * length);
            int[] starts = Sums(fired.AsSpan(own));
            var ownEntries = new Range(entries, entries += starts[^1]);
            Keep(
                new SampledContext(
                    numbers[c],
                    new PackedContext(tokens[own], documents[own], positions[own]),
                    starts,
                    latents[ownEntries],
                    values[ownEntries]
                )
            );
        }
        (limit, contexts) = (unchecked((ulong)limits[0]), limits[1]);
    }

    private ulong HashOf(long number) => new Xoshiro256(unchecked(seed + (ulong)number)).NextULong();

    /// <summary>One context stays whatever its size.</summary>
    private void Keep(SampledContext context)
    {
        kept.Enqueue(context, HashOf(context.Number));
        size += context.Size;
        while (size > budget && kept.Count > 1)
        {
            kept.TryDequeue(out var dropped, out limit);
            size -= dropped!.Size;
        }
    }

    private SampledContext Sparse(
        long number,
        PackedContext context,
        ReadOnlySpan<long> indices,
        ReadOnlySpan<float> values
    )
    {
        int positions = context.Tokens.Length;
        int width = indices.Length / positions;
        var starts = new int[positions + 1];
        var latents = new List<int>();
        var activations = new List<float>();
        for (int t = 0; t < positions; t++)
        {
            for (int j = t * width; j < (t + 1) * width; j++)
            {
                if (values[j] > 0 && context.Tokens[t] != bos)
                {
                    latents.Add((int)indices[j]);
                    activations.Add(values[j]);
                }
            }
            starts[t + 1] = latents.Count;
        }
        return new SampledContext(number, context, starts, [.. latents], [.. activations]);
    }

    private static int[] Differences(int[] starts) => [.. starts.Skip(1).Zip(starts, (next, start) => next - start)];

    private static int[] Sums(ReadOnlySpan<int> counts)
    {
        int[] starts = new int[counts.Length + 1];
        for (int i = 0; i < counts.Length; i++)
        {
            starts[i + 1] = starts[i] + counts[i];
        }
        return starts;
    }
}
