using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// How often each latent fires and the text it fires on most. Memory is latents x examples x window, whatever the number
/// of tokens.
/// </summary>
internal sealed class FeatureExamples(int features, ITokenizer tokenizer)
{
    private const int ExamplesPerFeature = 5;
    private const int Before = 12;
    private const int After = 6;
    private const int Window = Before + 1 + After;

    private readonly long[] fired = new long[features];

    /// <summary>
    /// By activation, and of equal ones the earlier token's: which examples are kept depends on the text alone, not on the
    /// order they came in.
    /// </summary>
    private readonly PriorityQueue<Example, (float Value, long Earliness)>?[] best = new PriorityQueue<
        Example,
        (float Value, long Earliness)
    >?[features];
    private long tokens;

    /// <summary>Latents that fired on no token.</summary>
    public int Dead => fired.Count(count => count == 0);

    /// <param name="batch">Contexts of T tokens.</param>
    /// <param name="indices">[B x T, K], row-major.</param>
    /// <param name="values">[B x T, K], row-major.</param>
    public void Add(PackedContext[] batch, long[] indices, float[] values)
    {
        int positions = batch[0].Tokens.Length;
        int kept = indices.Length / (batch.Length * positions);
        for (int row = 0; row < batch.Length * positions; row++)
        {
            tokens++;
            for (int j = row * kept; j < (row + 1) * kept; j++)
            {
                if (values[j] <= 0)
                {
                    continue;
                }
                fired[indices[j]]++;
                Consider(batch[row / positions], row, row % positions, kept, indices, values, j);
            }
        }
    }

    /// <summary>{edges, counts}: 28 bins of a quarter decade from 1e-7 to 1.</summary>
    public JsonObject DensityHistogram()
    {
        const int Bins = 28;
        const double Lowest = -7;
        var counts = new long[Bins];
        foreach (long count in fired.Where(count => count > 0))
        {
            double density = Math.Log10(count / (double)tokens);
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
        int[] alive = [.. Enumerable.Range(0, features).Where(f => fired[f] > 0).OrderByDescending(f => fired[f])];
        int count = Math.Min(wanted, alive.Length);
        return [.. Enumerable.Range(0, count).Select(i => alive[(int)((long)i * alive.Length / count)])];
    }

    /// <summary>Examples of latents as <see cref="Spread"/> chooses them.</summary>
    public JsonObject ToJson(int wanted) =>
        new() { ["features"] = new JsonArray([.. Spread(wanted).Select(f => (JsonNode)Describe(f))]) };

    /// <summary>Everything kept so far, by name. E examples, W tokens the widest window.</summary>
    public IReadOnlyList<(string Name, Tensor Value)> State()
    {
        var all = Enumerable
            .Range(0, features)
            .Where(f => best[f] is not null)
            .SelectMany(f => best[f]!.UnorderedItems.Select(item => (f, item.Element, item.Priority)))
            .ToList();
        int[] Windows(Func<Example, int[]> of) =>
            [.. all.SelectMany(e => of(e.Element).Concat(Enumerable.Repeat(0, Window - of(e.Element).Length)))];
        return
        [
            ("tokens", tensor(tokens)),
            ("fired", tensor(fired)),
            ("latent", tensor(all.Select(e => (long)e.f).ToArray())),
            ("value", tensor(all.Select(e => e.Priority.Value).ToArray())),
            ("earliness", tensor(all.Select(e => e.Priority.Earliness).ToArray())),
            ("peak", tensor(all.Select(e => (long)e.Element.Peak).ToArray())),
            ("length", tensor(all.Select(e => (long)e.Element.Tokens.Length).ToArray())),
            ("window_tokens", tensor(Windows(e => e.Tokens))),
            (
                "window_activations",
                tensor(Windows(e => Array.ConvertAll(e.Activations, BitConverter.SingleToInt32Bits)))
            ),
        ];
    }

    public void Restore(Func<string, Tensor> load)
    {
        using var scope = NewDisposeScope();
        tokens = load("tokens").item<long>();
        load("fired").data<long>().CopyTo(fired);
        long[] latents = CpuKernels.ToArray<long>(load("latent"));
        float[] values = CpuKernels.ToArray<float>(load("value"));
        long[] earliness = CpuKernels.ToArray<long>(load("earliness"));
        long[] peaks = CpuKernels.ToArray<long>(load("peak"));
        long[] lengths = CpuKernels.ToArray<long>(load("length"));
        int[] windows = CpuKernels.ToArray<int>(load("window_tokens"));
        int[] activations = CpuKernels.ToArray<int>(load("window_activations"));
        for (int i = 0; i < latents.Length; i++)
        {
            var window = new Range(i * Window, (i * Window) + (int)lengths[i]);
            var example = new Example(
                windows[window],
                Array.ConvertAll(activations[window], BitConverter.Int32BitsToSingle),
                (int)peaks[i]
            );
            (best[latents[i]] ??= new()).Enqueue(example, (values[i], earliness[i]));
        }
    }

    private void Consider(
        PackedContext context,
        int row,
        int position,
        int kept,
        long[] indices,
        float[] values,
        int entry
    )
    {
        long feature = indices[entry];
        var queue = best[feature] ??= new();
        var priority = (values[entry], -tokens);
        if (queue.Count == ExamplesPerFeature && queue.TryPeek(out _, out var least) && priority.CompareTo(least) < 0)
        {
            return;
        }
        int first = Math.Max(0, position - Before);
        int last = Math.Min(context.Tokens.Length - 1, position + After);
        var activations = new float[last - first + 1];
        for (int p = first; p <= last; p++)
        {
            int at = (row - position + p) * kept;
            int found = Array.IndexOf(indices, feature, at, kept);
            activations[p - first] = found < 0 ? 0 : values[found];
        }
        queue.Enqueue(new Example(context.Tokens[first..(last + 1)], activations, position - first), priority);
        if (queue.Count > ExamplesPerFeature)
        {
            queue.Dequeue();
        }
    }

    private JsonObject Describe(int feature)
    {
        var examples = best[feature]!.UnorderedItems.OrderByDescending(item => item.Priority).ToList();
        return new JsonObject
        {
            ["index"] = feature,
            ["density"] = fired[feature] / (double)tokens,
            ["max_activation"] = examples[0].Priority.Value,
            ["examples"] = new JsonArray([.. examples.Select(item => (JsonNode)Describe(item.Element))]),
        };
    }

    private JsonObject Describe(Example example) =>
        new()
        {
            ["tokens"] = new JsonArray([.. example.Tokens.Select(id => (JsonNode)tokenizer.TokenText(id))]),
            ["activations"] = new JsonArray([.. example.Activations.Select(value => (JsonNode)value)]),
            ["peak"] = example.Peak,
        };

    private sealed record Example(int[] Tokens, float[] Activations, int Peak);
}
