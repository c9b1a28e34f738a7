using System.Text.Json.Nodes;
using MathNet.Numerics.Statistics;
using Pipeline.Shared;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// Percentile bootstrap over documents (Efron and Tibshirani 1993, chapter 13): tokens of one document resemble each other,
/// so whole documents are drawn, as many as there are, with replacement. Every figure is a ratio of sums and is taken anew
/// from the sums of each resample. All figures share the resamples.
/// </summary>
internal sealed class Bootstrap
{
    public const int Resamples = 1000;
    public const double Confidence = 0.95;

    /// <summary>Row-major [resamples, documents]: how often each was drawn.</summary>
    private readonly double[] timesDrawnRN;

    public Bootstrap(int documents, Xoshiro256 random)
    {
        Documents = documents;
        timesDrawnRN = new double[Resamples * documents];
        for (int r = 0; r < Resamples; r++)
        {
            for (int draw = 0; draw < documents; draw++)
            {
                timesDrawnRN[(r * documents) + random.NextInt(documents)]++;
            }
        }
    }

    public int Documents { get; }

    /// <summary>Of each resample the sum over the documents drawn, [resamples].</summary>
    /// <param name="sumsN">Each document's sum.</param>
    public double[] Totals(double[] sumsN)
    {
        var totalsR = new double[Resamples];
        for (int r = 0; r < Resamples; r++)
        {
            for (int n = 0; n < Documents; n++)
            {
                totalsR[r] += timesDrawnRN[(r * Documents) + n] * sumsN[n];
            }
        }
        return totalsR;
    }

    /// <summary>The same of vectors, [resamples, D].</summary>
    /// <param name="sumsND">float64.</param>
    public Tensor Totals(Tensor sumsND)
    {
        using var scope = NewDisposeScope();
        return tensor(timesDrawnRN, Resamples, Documents).matmul(sumsND).MoveToOuterDisposeScope();
    }

    /// <summary>[low, high]: the middle 95 % of a figure's values; null where it is undefined in a resample, or for one document.</summary>
    public JsonArray? Interval(IEnumerable<double> figureR)
    {
        double[] sorted = [.. figureR.Order()];
        if (Documents < 2 || sorted.Any(value => !double.IsFinite(value)))
        {
            return null;
        }
        return [Quantile((1 - Confidence) / 2), Quantile((1 + Confidence) / 2)];

        double Quantile(double share) => SortedArrayStatistics.QuantileCustom(sorted, share, QuantileDefinition.R7);
    }
}
