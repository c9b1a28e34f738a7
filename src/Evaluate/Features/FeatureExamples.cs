using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate.Features;

/// <summary>
/// Of every latent how often and how strongly it fires and the text it fires on most, over all tokens that come by but BOS,
/// whose activations are of another size and say nothing of the text: what fires on it is only counted. About 1,800 bytes a
/// latent, whatever the number of tokens.
/// </summary>
/// <param name="features">F.</param>
/// <param name="bos">BOS's id; null where the tokenizer has none.</param>
internal sealed class FeatureExamples(int features, int? bos)
{
    /// <summary>Examples kept of each latent, at most.</summary>
    public const int Most = 10;

    private const int Window = LatentExample.Window;

    private readonly long[] firedF = new long[features];
    private readonly long[] firedOnBosF = new long[features];
    private readonly double[] sumF = new double[features];

    /// <summary>Place of the token with the largest activation.</summary>
    private readonly long[] peakF = new long[features];

    /// <summary>
    /// [F, Most]; of each latent its largest activations in descending order, of equal ones the earlier token's first: which
    /// are kept depends on the text alone, not on how it was cut into batches.
    /// </summary>
    private readonly float[] largestFE = new float[features * Most];

    /// <summary>[F, Most]; which of the latent's windows belongs to each of them: windows stay where they are.</summary>
    private readonly int[] windowOfFE = new int[features * Most];
    private readonly Windows windows = new(features * Most);
    private long tokens;

    /// <summary>How many of them were BOS.</summary>
    private long bosTokens;

    /// <summary>Tokens that came by, BOS apart.</summary>
    public long Tokens => tokens - bosTokens;

    /// <summary>Share of latents that fired on no token.</summary>
    /// <param name="withBos">Whether BOS is one.</param>
    public double DeadFraction(bool withBos) => FiredF(withBos).Count(count => count == 0) / (double)features;

    public long Fired(int latent) => firedF[latent];

    /// <summary>Share of the tokens that the latent fires on.</summary>
    public double Density(int latent) => firedF[latent] / (double)Tokens;

    /// <summary>0 where it never fires.</summary>
    public float Largest(int latent) => largestFE[latent * Most];

    /// <summary>The token on which the latent is largest, of equal ones the first, by its place among all; null where it never fires.</summary>
    public long? Peak(int latent) => firedF[latent] == 0 ? null : peakF[latent];

    /// <summary>Mean activation over the tokens it fires on, 0 where it never does.</summary>
    public double Mean(int latent) => firedF[latent] == 0 ? 0 : sumF[latent] / firedF[latent];

    /// <param name="batch">Contexts of T tokens.</param>
    /// <param name="indices">[B x T, K], row-major.</param>
    /// <param name="values">[B x T, K], row-major.</param>
    public void Add(PackedContext[] batch, long[] indices, float[] values)
    {
        int positions = batch[0].Tokens.Length;
        int kept = indices.Length / (batch.Length * positions);
        for (int row = 0; row < batch.Length * positions; row++)
        {
            bool isBos = batch[row / positions].Tokens[row % positions] == bos;
            tokens++;
            bosTokens += isBos ? 1 : 0;
            for (int j = row * kept; j < (row + 1) * kept; j++)
            {
                if (values[j] <= 0)
                {
                    continue;
                }
                int latent = (int)indices[j];
                if (isBos)
                {
                    firedOnBosF[latent]++;
                    continue;
                }
                firedF[latent]++;
                sumF[latent] += values[j];
                if (values[j] > largestFE[(latent * Most) + Most - 1])
                {
                    Keep(batch[row / positions], row, row % positions, kept, indices, values, j);
                }
            }
        }
    }

    /// <summary>The latent's largest activations in context, the largest first.</summary>
    public IEnumerable<LatentExample> Of(int latent)
    {
        int count = (int)Math.Min(Most, firedF[latent]);
        return Enumerable.Range(0, count).Select(e => windows.At((latent * Most) + windowOfFE[(latent * Most) + e]));
    }

    /// <summary>{edges, counts}: 28 bins of a quarter decade from 1e-7 to 1.</summary>
    /// <param name="withBos">Whether what fires on BOS counts.</param>
    public JsonObject DensityHistogram(bool withBos)
    {
        const int Bins = 28;
        const double Lowest = -7;
        var counts = new long[Bins];
        foreach (long count in FiredF(withBos).Where(count => count > 0))
        {
            double density = Math.Log10(count / (double)(withBos ? tokens : Tokens));
            counts[(int)Math.Clamp((density - Lowest) * 4, 0, Bins - 1)]++;
        }
        return new JsonObject
        {
            ["edges"] = new JsonArray([.. Enumerable.Range(0, Bins + 1).Select(i => (JsonNode)(Lowest + (i / 4.0)))]),
            ["counts"] = new JsonArray([.. counts.Select(count => (JsonNode)count)]),
        };
    }

    /// <summary>Latents spread evenly over the living ones, from the most often firing to the rarest.</summary>
    public IReadOnlyList<int> Spread(int wanted)
    {
        int[] alive = [.. Enumerable.Range(0, features).Where(f => firedF[f] > 0).OrderByDescending(f => firedF[f])];
        int count = Math.Min(wanted, alive.Length);
        return [.. Enumerable.Range(0, count).Select(i => alive[(int)((long)i * alive.Length / count)])];
    }

    /// <summary>Everything kept so far, by name.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State() =>
        [
            ("tokens", tensor(new[] { tokens, bosTokens })),
            ("fired", tensor(firedF)),
            ("fired_on_bos", tensor(firedOnBosF)),
            ("sum", tensor(sumF)),
            ("peak", tensor(peakF)),
            ("largest", tensor(largestFE)),
            ("window_of", tensor(windowOfFE)),
            .. windows.State(),
        ];

    public void Restore(Func<string, Tensor> load)
    {
        using var scope = NewDisposeScope();
        long[] counted = CpuKernels.ToArray<long>(load("tokens"));
        (tokens, bosTokens) = (counted[0], counted[1]);
        CpuKernels.ToArray<long>(load("fired")).CopyTo(firedF, 0);
        CpuKernels.ToArray<long>(load("fired_on_bos")).CopyTo(firedOnBosF, 0);
        CpuKernels.ToArray<double>(load("sum")).CopyTo(sumF, 0);
        CpuKernels.ToArray<long>(load("peak")).CopyTo(peakF, 0);
        CpuKernels.ToArray<float>(load("largest")).CopyTo(largestFE, 0);
        CpuKernels.ToArray<int>(load("window_of")).CopyTo(windowOfFE, 0);
        windows.Restore(load);
    }

    private IEnumerable<long> FiredF(bool withBos) => withBos ? firedF.Zip(firedOnBosF, (a, b) => a + b) : firedF;

    /// <summary>Puts an activation that belongs among the latent's largest into its place.</summary>
    private void Keep(PackedContext context, int row, int position, int kept, long[] indices, float[] values, int entry)
    {
        int latent = (int)indices[entry];
        var largestE = largestFE.AsSpan(latent * Most, Most);
        var windowOfE = windowOfFE.AsSpan(latent * Most, Most);
        int had = (int)Math.Min(Most, firedF[latent] - 1);
        int window = had < Most ? had : windowOfE[^1];
        int place = Math.Min(had, Most - 1);
        for (; place > 0 && largestE[place - 1] < values[entry]; place--)
        {
            largestE[place] = largestE[place - 1];
            windowOfE[place] = windowOfE[place - 1];
        }
        (largestE[place], windowOfE[place]) = (values[entry], window);
        if (place == 0)
        {
            peakF[latent] = tokens - 1;
        }

        var (first, length) = LatentExample.Around(position, context.Tokens.Length);
        var activationsW = windows.Take((latent * Most) + window, context, position, first, length);
        for (int w = 0; w < length; w++)
        {
            int at = (row - position + first + w) * kept;
            int found = Array.IndexOf(indices, latent, at, kept);
            activationsW[w] = found < 0 || context.Tokens[first + w] == bos ? 0 : values[found];
        }
    }

    /// <summary>Stretches of text in fixed places, W tokens at most.</summary>
    private sealed class Windows(int count)
    {
        private readonly int[] tokensNW = new int[count * Window];
        private readonly float[] activationsNW = new float[count * Window];

        /// <summary>[N, 4]: length, peak, document, position.</summary>
        private readonly int[] wordsN4 = new int[count * 4];

        /// <summary>Overwrites a place.</summary>
        /// <returns>Where its activations belong.</returns>
        public Span<float> Take(int place, PackedContext context, int position, int first, int length)
        {
            context.Tokens.AsSpan(first, length).CopyTo(tokensNW.AsSpan(place * Window));
            int[] words = [length, position - first, context.Documents[position], context.Positions[position]];
            words.CopyTo(wordsN4, place * 4);
            return activationsNW.AsSpan(place * Window, length);
        }

        public LatentExample At(int place)
        {
            var words = wordsN4.AsSpan(place * 4, 4);
            return new LatentExample(
                tokensNW.AsSpan(place * Window, words[0]).ToArray(),
                activationsNW.AsSpan(place * Window, words[0]).ToArray(),
                words[1],
                words[2],
                words[3]
            );
        }

        public IEnumerable<(string Name, Tensor Value)> State() =>
            [
                ("window_tokens", tensor(tokensNW)),
                ("window_activations", tensor(activationsNW)),
                ("window_words", tensor(wordsN4)),
            ];

        public void Restore(Func<string, Tensor> load)
        {
            CpuKernels.ToArray<int>(load("window_tokens")).CopyTo(tokensNW, 0);
            CpuKernels.ToArray<float>(load("window_activations")).CopyTo(activationsNW, 0);
            CpuKernels.ToArray<int>(load("window_words")).CopyTo(wordsN4, 0);
        }
    }
}
