using System.Numerics.Tensors;

namespace Pipeline.Train;

/// <summary>
/// What a kernel tells the optimizer of the gradients of W_enc's and W_dec's rows, so that it need not read them all again.
/// </summary>
/// <param name="features">F.</param>
internal sealed class RowGradients(int features)
{
    /// <summary>Whether a latent's rows have a gradient; where not, memory holds anything and the gradient is 0.</summary>
    public bool[] TouchedF { get; } = new bool[features];

    /// <summary>Multiple of W_dec's row that the optimizer takes from its gradient.</summary>
    public float[] AlongF { get; } = new float[features];

    /// <summary>Squared norm of both rows' gradients after that; 0 where not touched.</summary>
    public double[] SquaredF { get; } = new double[features];

    /// <summary>Sums up a latent's gradients.</summary>
    /// <param name="f">The latent.</param>
    /// <param name="encoder">Gradient of its row of W_enc.</param>
    /// <param name="decoder">Gradient of its row of W_dec.</param>
    /// <param name="decoderRow">That row.</param>
    /// <param name="projectionEpsilon">Added to the row's norm; null where the gradient along the row stays.</param>
    public void Measure(
        int f,
        ReadOnlySpan<float> encoder,
        ReadOnlySpan<float> decoder,
        ReadOnlySpan<float> decoderRow,
        double? projectionEpsilon
    )
    {
        TouchedF[f] = true;
        double squared = TensorPrimitives.SumOfSquares(decoder);
        AlongF[f] = 0;
        if (projectionEpsilon is { } epsilon)
        {
            // g - (g·u) u with u = d / (|d| + ε); its square is |g|² - 2 (g·u)² + (g·u)² |u|².
            double norm = Math.Sqrt(TensorPrimitives.SumOfSquares(decoderRow));
            double alongUnit = TensorPrimitives.Dot(decoder, decoderRow) / (norm + epsilon);
            double unit = norm / (norm + epsilon);
            AlongF[f] = (float)(alongUnit / (norm + epsilon));
            squared += alongUnit * alongUnit * ((unit * unit) - 2);
        }
        SquaredF[f] = Math.Max(0, squared) + TensorPrimitives.SumOfSquares(encoder);
    }
}
