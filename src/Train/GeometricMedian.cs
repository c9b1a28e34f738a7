using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>The point with the least mean distance to a sample (Weiszfeld 1937): where b_dec starts.</summary>
internal static class GeometricMedian
{
    /// <param name="xBD">The sample, at least one row.</param>
    /// <param name="maximumIterations">Weiszfeld steps at most.</param>
    /// <param name="tolerance">Stop when the point moves less than this.</param>
    public static Tensor Of(Tensor xBD, int maximumIterations = 100, double tolerance = 1e-5)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var guess = xBD.mean([0]);
        for (int i = 0; i < maximumIterations; i++)
        {
            var previous = guess;
            var weightsB1 = 1 / (xBD - previous).norm(1, keepdim: true);
            guess = (weightsB1 / weightsB1.sum() * xBD).sum(dim: 0);
            if ((guess - previous).norm().to(float64).item<double>() < tolerance)
            {
                break;
            }
        }
        return guess.MoveToOuterDisposeScope();
    }
}
