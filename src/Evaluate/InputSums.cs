namespace Pipeline.Evaluate;

/// <summary>One hook's activations in sums: tokens, |x|² and x itself. Every SAE there shares them.</summary>
internal sealed class InputSums(int width)
{
    private const int Tokens = 0;
    private const int Squared = 1;
    private const int First = 2;

    /// <summary>Sums whose variance is less of |x|² than this are of vectors that are all the same, up to rounding.</summary>
    private const double NoVariance = 1e-9;

    public GroupedSums Sums { get; } = new(First + width);

    /// <param name="places">[B x T]</param>
    /// <param name="xRD">Row-major [B x T, D].</param>
    public void Add(ReadOnlySpan<TokenPlace> places, ReadOnlySpan<float> xRD)
    {
        var row = new double[First + width];
        row[Tokens] = 1;
        for (int i = 0; i < places.Length; i++)
        {
            double squared = 0;
            for (int d = 0; d < width; d++)
            {
                double x = xRD[(i * width) + d];
                row[First + d] = x;
                squared += x * x;
            }
            row[Squared] = squared;
            Sums.Add(places[i], row);
        }
    }

    public static double TokensOf(ReadOnlySpan<double> sums) => sums[Tokens];

    public static double SquaredOf(ReadOnlySpan<double> sums) => sums[Squared];

    /// <summary>sum |x - x_mean|² of some tokens, x_mean their own mean; NaN where x does not vary.</summary>
    public static double VarianceOf(ReadOnlySpan<double> sums)
    {
        double squaredSum = 0;
        foreach (double sum in sums[First..])
        {
            squaredSum += sum * sum;
        }
        double variance = sums[Squared] - (squaredSum / sums[Tokens]);
        return variance > NoVariance * sums[Squared] ? variance : double.NaN;
    }

    /// <summary>Tokens of every resample.</summary>
    public double[] TokensOf(Bootstrap bootstrap) => bootstrap.Totals(Sums, Tokens);

    /// <summary><see cref="VarianceOf"/> of every resample.</summary>
    public double[] VariancesOf(Bootstrap bootstrap)
    {
        int columns = First + width;
        double[] totalsRC = bootstrap.Totals(Sums, 0, columns);
        return
        [
            .. Enumerable.Range(0, Bootstrap.Resamples).Select(r => VarianceOf(totalsRC.AsSpan(r * columns, columns))),
        ];
    }
}
