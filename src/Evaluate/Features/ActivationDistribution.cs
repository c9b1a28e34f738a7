using Pipeline.Shared;

namespace Pipeline.Evaluate.Features;

/// <summary>Some of a latent's activations, those from one quantile to the next.</summary>
/// <param name="From">The smallest of them.</param>
/// <param name="To">The largest.</param>
/// <param name="Count">How many.</param>
/// <param name="Rows">A few of them, drawn evenly: their rows, the largest activation first.</param>
internal sealed record QuantileBand(float From, float To, int Count, IReadOnlyList<int> Rows);

/// <summary>How one latent's activations are distributed over a sample.</summary>
internal static class ActivationDistribution
{
    /// <summary>Bins of a histogram.</summary>
    public const int Bins = 20;

    /// <summary>Bands, from the fifth of the activations that are largest to the fifth that are smallest.</summary>
    public const int Bands = 5;

    /// <summary>Rows drawn from a band, at most.</summary>
    public const int RowsPerBand = 5;

    /// <summary>Edges of equal bins from 0 to <paramref name="largest"/>; none where that is 0.</summary>
    public static IReadOnlyList<float> Edges(float largest) =>
        largest > 0 ? [.. Enumerable.Range(0, Bins + 1).Select(i => i == Bins ? largest : largest * i / Bins)] : [];

    /// <summary>Of each bin the activations above its lower edge up to its upper edge.</summary>
    public static IReadOnlyList<int> Histogram(ReadOnlySpan<float> activations, IReadOnlyList<float> edges)
    {
        if (edges.Count == 0)
        {
            return [];
        }
        int[] counts = new int[Bins];
        foreach (float activation in activations)
        {
            int bin = Math.Clamp((int)(activation / edges[^1] * Bins), 0, Bins - 1);
            // The division's rounding may miss by one.
            bin -= bin > 0 && activation <= edges[bin] ? 1 : 0;
            bin += bin < Bins - 1 && activation > edges[bin + 1] ? 1 : 0;
            counts[bin]++;
        }
        return counts;
    }

    /// <summary>The bands that have any activation, the largest first; of equal activations the earlier row counts as larger.</summary>
    /// <param name="rows">Ascending.</param>
    /// <param name="activations">Of the same order.</param>
    /// <param name="random">Draws the bands' rows.</param>
    public static IReadOnlyList<QuantileBand> Quantiles(
        ReadOnlySpan<int> rows,
        ReadOnlySpan<float> activations,
        Xoshiro256 random
    )
    {
        int[] rowOf = rows.ToArray();
        float[] valueOf = activations.ToArray();
        int[] descending = [.. Enumerable.Range(0, rowOf.Length).OrderByDescending(i => valueOf[i])];
        var bands = new List<QuantileBand>();
        for (int band = 0; band < Bands; band++)
        {
            int first = (int)((long)band * rowOf.Length / Bands);
            int last = (int)((long)(band + 1) * rowOf.Length / Bands);
            if (first < last)
            {
                var drawn = Draw(first, last, random).Select(place => rowOf[descending[place]]);
                bands.Add(
                    new QuantileBand(
                        valueOf[descending[last - 1]],
                        valueOf[descending[first]],
                        last - first,
                        [.. drawn]
                    )
                );
            }
        }
        return bands;
    }

    /// <summary>Different numbers from <paramref name="first"/> to <paramref name="last"/> - 1, ascending.</summary>
    private static SortedSet<int> Draw(int first, int last, Xoshiro256 random)
    {
        var drawn = new SortedSet<int>();
        while (drawn.Count < Math.Min(RowsPerBand, last - first))
        {
            drawn.Add(first + random.NextInt(last - first));
        }
        return drawn;
    }
}
