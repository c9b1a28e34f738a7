namespace Pipeline.Evaluate.Features;

/// <summary>
/// A <see cref="LatentSample"/>'s activations by latent: of each the rows it fires on, in the text's order. A row is a token
/// of the sample: context number x T + position.
/// </summary>
internal sealed class SampledActivations
{
    private readonly IReadOnlyList<SampledContext> contexts;
    private readonly int[] startsF;
    private readonly int[] rows;
    private readonly float[] values;

    /// <param name="contexts">In the text's order.</param>
    /// <param name="features">F.</param>
    /// <param name="bos">The id of the BOS on which nothing counts; null where the tokenizer has none.</param>
    public SampledActivations(IReadOnlyList<SampledContext> contexts, int features, int? bos)
    {
        (this.contexts, Bos) = (contexts, bos);
        Positions = contexts.Count == 0 ? 0 : contexts[0].Text.Tokens.Length;
        startsF = new int[features + 1];
        foreach (int latent in contexts.SelectMany(context => context.Latents))
        {
            startsF[latent + 1]++;
        }
        for (int f = 0; f < features; f++)
        {
            startsF[f + 1] += startsF[f];
        }
        (rows, values) = (new int[startsF[^1]], new float[startsF[^1]]);
        Fill();
    }

    /// <summary>Tokens of a context.</summary>
    public int Positions { get; }

    public int Contexts => contexts.Count;

    public int Features => startsF.Length - 1;

    public int? Bos { get; }

    /// <summary>Tokens in all, BOS apart.</summary>
    public int Counted => contexts.Sum(context => context.Text.Tokens.Count(token => token != Bos));

    /// <summary>On which the latent fires, ascending.</summary>
    public ReadOnlySpan<int> RowsOf(int latent) => rows.AsSpan(startsF[latent]..startsF[latent + 1]);

    /// <summary>Its activations there.</summary>
    public ReadOnlySpan<float> ValuesOf(int latent) => values.AsSpan(startsF[latent]..startsF[latent + 1]);

    /// <summary>What else fires on a row, and the latent itself.</summary>
    public ReadOnlySpan<int> LatentsOf(int row)
    {
        var context = contexts[row / Positions];
        int t = row % Positions;
        return context.Latents.AsSpan(context.Starts[t]..context.Starts[t + 1]);
    }

    public int[] TokensOf(int context) => contexts[context].Text.Tokens;

    /// <summary>A latent's activations in a context, zeros included.</summary>
    /// <param name="latent">Which.</param>
    /// <param name="context">Which.</param>
    /// <param name="activationsT">Receives them.</param>
    /// <returns>Whether it fires there at all.</returns>
    public bool Read(int latent, int context, Span<float> activationsT)
    {
        activationsT.Clear();
        return ReadFrom(latent, context * Positions, activationsT);
    }

    /// <summary>What stands around a row that the latent fires on.</summary>
    public LatentExample ExampleAt(int latent, int row)
    {
        var text = contexts[row / Positions].Text;
        int t = row % Positions;
        var (first, length) = LatentExample.Around(t, Positions);
        var activations = new float[length];
        ReadFrom(latent, row - t + first, activations);
        return new LatentExample(
            text.Tokens[first..(first + length)],
            activations,
            t - first,
            text.Documents[t],
            text.Positions[t]
        );
    }

    /// <summary>Activations above 0 from a row on; the others are left as they are.</summary>
    private bool ReadFrom(int latent, int firstRow, Span<float> activations)
    {
        var own = RowsOf(latent);
        int found = own.BinarySearch(firstRow);
        bool any = false;
        for (int i = found < 0 ? ~found : found; i < own.Length && own[i] < firstRow + activations.Length; i++)
        {
            activations[own[i] - firstRow] = ValuesOf(latent)[i];
            any = true;
        }
        return any;
    }

    private void Fill()
    {
        int[] next = startsF[..^1];
        for (int c = 0; c < contexts.Count; c++)
        {
            var context = contexts[c];
            for (int t = 0; t < Positions; t++)
            {
                for (int i = context.Starts[t]; i < context.Starts[t + 1]; i++)
                {
                    int at = next[context.Latents[i]]++;
                    (rows[at], values[at]) = ((c * Positions) + t, context.Values[i]);
                }
            }
        }
    }
}
