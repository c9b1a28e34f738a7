using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels;

/// <summary>Scores of rows of V logits, a piece in the cache at a time: no second matrix of their size comes to be.</summary>
public static class LogitKernel
{
    private const int Piece = 1024;

    /// <summary>ln Σ exp(z).</summary>
    /// <param name="logitsV">z.</param>
    public static double LogSumExp(ReadOnlySpan<float> logitsV)
    {
        Span<float> exps = stackalloc float[Piece];
        float largest = TensorPrimitives.Max(logitsV);
        double sum = 0;
        for (int at = 0; at < logitsV.Length; at += Piece)
        {
            var piece = logitsV.Slice(at, Math.Min(Piece, logitsV.Length - at));
            var own = exps[..piece.Length];
            TensorPrimitives.Subtract(piece, largest, own);
            TensorPrimitives.Exp<float>(own, own);
            sum += TensorPrimitives.Sum<float>(own);
        }
        return largest + Math.Log(sum);
    }

    /// <summary>KL(softmax(clean) ‖ softmax(other)), nats.</summary>
    /// <param name="cleanV">Logits.</param>
    /// <param name="cleanLogSum">Their <see cref="LogSumExp"/>.</param>
    /// <param name="otherV">Logits.</param>
    /// <param name="otherLogSum">Their <see cref="LogSumExp"/>.</param>
    public static double Divergence(
        ReadOnlySpan<float> cleanV,
        double cleanLogSum,
        ReadOnlySpan<float> otherV,
        double otherLogSum
    )
    {
        Span<float> probabilities = stackalloc float[Piece];
        Span<float> differences = stackalloc float[Piece];
        double sum = 0;
        for (int at = 0; at < cleanV.Length; at += Piece)
        {
            var clean = cleanV.Slice(at, Math.Min(Piece, cleanV.Length - at));
            var own = probabilities[..clean.Length];
            var difference = differences[..clean.Length];
            TensorPrimitives.Subtract(clean, (float)cleanLogSum, own);
            TensorPrimitives.Exp<float>(own, own);
            TensorPrimitives.Subtract(clean, otherV.Slice(at, clean.Length), difference);
            sum += TensorPrimitives.Dot<float>(own, difference);
        }
        return sum - cleanLogSum + otherLogSum;
    }
}
