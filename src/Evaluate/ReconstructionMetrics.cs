using System.Numerics;
using System.Text.Json.Nodes;

namespace Pipeline.Evaluate;

/// <summary>How well x̂ stands for x, summed over tokens in float64 as they stream by: one reading of each row.</summary>
internal sealed class ReconstructionMetrics
{
    private readonly double[] sumD;
    private long tokens;
    private double activeLatents;
    private double latentSum;
    private double squaredError;
    private double squaredInput;
    private double squaredReconstruction;
    private double dot;
    private double cosine;
    private double normRatio;

    public ReconstructionMetrics(int width) => sumD = new double[width];

    /// <summary>Everything summed so far; float64 holds token counts up to 2^53 exactly.</summary>
    public double[] State
    {
        get =>
            [
                tokens,
                activeLatents,
                latentSum,
                squaredError,
                squaredInput,
                squaredReconstruction,
                dot,
                cosine,
                normRatio,
                .. sumD,
            ];
        set
        {
            tokens = (long)value[0];
            (activeLatents, latentSum, squaredError, squaredInput) = (value[1], value[2], value[3], value[4]);
            (squaredReconstruction, dot, cosine, normRatio) = (value[5], value[6], value[7], value[8]);
            value.AsSpan(9).CopyTo(sumD);
        }
    }

    /// <summary>Adds one token.</summary>
    /// <param name="xD">Its activation.</param>
    /// <param name="reconstructionD">x̂.</param>
    /// <param name="valuesK">Its latents' activations.</param>
    public void Add(ReadOnlySpan<float> xD, ReadOnlySpan<float> reconstructionD, ReadOnlySpan<float> valuesK)
    {
        var row = Sums(xD, reconstructionD);
        tokens++;
        foreach (float value in valuesK)
        {
            activeLatents += value != 0 ? 1 : 0;
            latentSum += Math.Abs((double)value);
        }
        squaredError += row.Error;
        squaredInput += row.Input;
        squaredReconstruction += row.Reconstruction;
        dot += row.Dot;
        const double Tiny = 1e-300; // a zero vector counts as cosine 0 and ratio 0, not NaN
        cosine += row.Dot / Math.Max(Math.Sqrt(row.Input * row.Reconstruction), Tiny);
        normRatio += Math.Sqrt(row.Reconstruction / Math.Max(row.Input, Tiny));
    }

    /// <summary>The metrics by the names of metrics.json; <see cref="MetricDefinitions"/> says what each is.</summary>
    public JsonObject ToJson(int width)
    {
        double meanSquaredNorm = sumD.Sum(sum => sum * sum) / tokens;
        double fvu = squaredError / (squaredInput - meanSquaredNorm);
        return new JsonObject
        {
            ["tokens"] = tokens,
            ["l0"] = activeLatents / tokens,
            ["l1"] = latentSum / tokens,
            ["fvu"] = fvu,
            ["explained_variance"] = 1 - fvu,
            ["nmse_to_zero"] = squaredError / squaredInput,
            ["mse"] = squaredError / tokens / width,
            ["cosine"] = cosine / tokens,
            ["l2_ratio"] = normRatio / tokens,
            ["relative_bias"] = squaredReconstruction / dot,
        };
    }

    /// <summary>|x - x̂|², |x|², |x̂|² and x·x̂; adds x to the sum over tokens on the way.</summary>
    private (double Error, double Input, double Reconstruction, double Dot) Sums(
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
        int half = Vector<double>.Count;
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
            (new Vector<double>(sumD, i) + x0).CopyTo(sumD, i);
            (new Vector<double>(sumD, i + half) + x1).CopyTo(sumD, i + half);
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
            sumD[i] += x;
        }
        return sums;
    }
}
