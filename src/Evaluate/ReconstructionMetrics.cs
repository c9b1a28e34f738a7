using System.Numerics;
using System.Text.Json.Nodes;

namespace Pipeline.Evaluate;

/// <summary>How well x̂ stands for x, summed over tokens in float64 as they stream by: one reading of each row.</summary>
internal sealed class ReconstructionMetrics
{
    /// <summary>Columns of <see cref="Sums"/>.</summary>
    public const int ActiveLatents = 0;
    public const int SquaredError = 2;
    private const int LatentSum = 1;
    private const int SquaredReconstruction = 3;
    private const int Dot = 4;
    private const int Cosine = 5;
    private const int NormRatio = 6;
    private const int Columns = 7;

    public GroupedSums Sums { get; } = new(Columns);

    /// <summary>Adds one token.</summary>
    /// <param name="place">Where it stands.</param>
    /// <param name="xD">Its activation.</param>
    /// <param name="reconstructionD">x̂.</param>
    /// <param name="valuesK">Its latents' activations.</param>
    public void Add(
        TokenPlace place,
        ReadOnlySpan<float> xD,
        ReadOnlySpan<float> reconstructionD,
        ReadOnlySpan<float> valuesK
    )
    {
        var (error, input, reconstruction, dot) = Products(xD, reconstructionD);
        Span<double> row = stackalloc double[Columns];
        foreach (float value in valuesK)
        {
            row[ActiveLatents] += value != 0 ? 1 : 0;
            row[LatentSum] += Math.Abs((double)value);
        }
        const double Tiny = 1e-300; // a zero vector counts as cosine 0 and ratio 0, not NaN
        row[SquaredError] = error;
        row[SquaredReconstruction] = reconstruction;
        row[Dot] = dot;
        row[Cosine] = dot / Math.Max(Math.Sqrt(input * reconstruction), Tiny);
        row[NormRatio] = Math.Sqrt(reconstruction / Math.Max(input, Tiny));
        Sums.Add(place, row);
    }

    /// <summary>The metrics of some tokens by the names of metrics.json; <see cref="MetricDefinitions"/> says what each is.</summary>
    /// <param name="sums">Of <see cref="Sums"/>.</param>
    /// <param name="inputs">The same tokens' of the hook's <see cref="InputSums"/>.</param>
    /// <param name="width">D.</param>
    public static JsonObject ToJson(ReadOnlySpan<double> sums, ReadOnlySpan<double> inputs, int width)
    {
        double tokens = InputSums.TokensOf(inputs);
        double fvu = sums[SquaredError] / InputSums.VarianceOf(inputs);
        return new JsonObject
        {
            ["tokens"] = (long)tokens,
            ["l0"] = MetricNumber.Of(sums[ActiveLatents] / tokens),
            ["l1"] = MetricNumber.Of(sums[LatentSum] / tokens),
            ["fvu"] = MetricNumber.Of(fvu),
            ["explained_variance"] = MetricNumber.Of(1 - fvu),
            ["nmse_to_zero"] = MetricNumber.Of(sums[SquaredError] / InputSums.SquaredOf(inputs)),
            ["mse"] = MetricNumber.Of(sums[SquaredError] / tokens / width),
            ["cosine"] = MetricNumber.Of(sums[Cosine] / tokens),
            ["l2_ratio"] = MetricNumber.Of(sums[NormRatio] / tokens),
            ["relative_bias"] = MetricNumber.Of(sums[SquaredReconstruction] / sums[Dot]),
        };
    }

    /// <summary>|x - x̂|², |x|², |x̂|² and x·x̂.</summary>
    public static (double Error, double Input, double Reconstruction, double Dot) Products(
        ReadOnlySpan<float> xD,
        ReadOnlySpan<float> yD
    )
    {
        var (errors, inputs, reconstructions, dots) = (
            Vector<double>.Zero,
            Vector<double>.Zero,
            Vector<double>.Zero,
            Vector<double>.Zero
        );
        int i = 0;
        for (; i + Vector<float>.Count <= xD.Length; i += Vector<float>.Count)
        {
            Vector.Widen(new Vector<float>(xD[i..]), out var x0, out var x1);
            Vector.Widen(new Vector<float>(yD[i..]), out var y0, out var y1);
            var (e0, e1) = (x0 - y0, x1 - y1);
            errors += (e0 * e0) + (e1 * e1);
            inputs += (x0 * x0) + (x1 * x1);
            reconstructions += (y0 * y0) + (y1 * y1);
            dots += (x0 * y0) + (x1 * y1);
        }
        var sums = (
            Error: Vector.Sum(errors),
            Input: Vector.Sum(inputs),
            Reconstruction: Vector.Sum(reconstructions),
            Dot: Vector.Sum(dots)
        );
        for (; i < xD.Length; i++)
        {
            double x = xD[i];
            double y = yD[i];
            sums.Error += (x - y) * (x - y);
            sums.Input += x * x;
            sums.Reconstruction += y * y;
            sums.Dot += x * y;
        }
        return sums;
    }
}
