using System.Text.Json.Nodes;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>How well x̂ stands for x, summed over tokens in float64 as they stream by.</summary>
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

    /// <param name="xRD">Activations.</param>
    /// <param name="reconstructionRD">x̂.</param>
    /// <param name="valuesRK">The latents' activations.</param>
    public void Add(Tensor xRD, Tensor reconstructionRD, Tensor valuesRK)
    {
        if (xRD.shape[0] == 0)
        {
            return;
        }
        using var scope = NewDisposeScope();
        var x = xRD.to(float64);
        var y = reconstructionRD.to(float64);
        tokens += x.shape[0];
        activeLatents += (valuesRK > 0).sum(float64).item<double>();
        latentSum += valuesRK.abs().sum(float64).item<double>();
        squaredError += (x - y).square().sum().item<double>();
        var xSquaredR = x.square().sum(-1);
        var ySquaredR = y.square().sum(-1);
        var dotR = (x * y).sum(-1);
        squaredInput += xSquaredR.sum().item<double>();
        squaredReconstruction += ySquaredR.sum().item<double>();
        dot += dotR.sum().item<double>();
        const double Tiny = 1e-300; // a zero vector counts as cosine 0 and ratio 0, not NaN
        cosine += (dotR / (xSquaredR * ySquaredR).sqrt().clamp_min(Tiny)).sum().item<double>();
        normRatio += (ySquaredR / xSquaredR.clamp_min(Tiny)).sqrt().sum().item<double>();
        double[] batchSum = x.sum(dim: 0).data<double>().ToArray();
        for (int i = 0; i < sumD.Length; i++)
        {
            sumD[i] += batchSum[i];
        }
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
}
