using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// What a forward pass does between its matrix products, each in one pass over memory. Their plain twins are the tensor
/// operations in <see cref="Models.Transformer"/>. Every value depends on its row alone, so that the number of threads
/// changes nothing.
/// </summary>
public static unsafe class ElementwiseKernels
{
    private const int Lanes = 16;

    /// <summary>A thread's piece of work, values: enough to be worth handing over, few enough to stay in a core's cache.</summary>
    private const long PieceValues = 1 << 16;

    /// <summary>x becomes GELU(x) by its tanh form.</summary>
    /// <param name="x">Updated.</param>
    /// <param name="length">Values.</param>
    /// <param name="threads">At most so many.</param>
    public static void GeluTanh(float* x, long length, int threads) =>
        Pieces(length, PieceValues, threads, (from, to) => GeluTanhPiece(x + from, to - from));

    /// <summary>SiLU(gate) x up.</summary>
    /// <param name="gateUpNW">[N, 2 M]: a row's gate, then its up.</param>
    /// <param name="gatedNM">Receives [N, M].</param>
    /// <param name="rows">N.</param>
    /// <param name="width">M.</param>
    /// <param name="threads">At most so many.</param>
    public static void SiluGate(float* gateUpNW, float* gatedNM, long rows, int width, int threads) =>
        Pieces(
            rows,
            Math.Max(1, PieceValues / width),
            threads,
            (from, to) =>
            {
                for (long row = from; row < to; row++)
                {
                    SiluGateRow(gateUpNW + (row * 2 * width), gatedNM + (row * width), width);
                }
            }
        );

    /// <summary>x / sqrt(mean square + epsilon) x weight, row by row.</summary>
    /// <param name="xND">[N, D].</param>
    /// <param name="weightD">[D].</param>
    /// <param name="normedND">Receives [N, D].</param>
    /// <param name="rows">N.</param>
    /// <param name="width">D.</param>
    /// <param name="epsilon">Added to the mean square.</param>
    /// <param name="threads">At most so many.</param>
    public static void RmsNorm(
        float* xND,
        float* weightD,
        float* normedND,
        long rows,
        int width,
        double epsilon,
        int threads
    ) =>
        Pieces(
            rows,
            Math.Max(1, PieceValues / width),
            threads,
            (from, to) =>
            {
                for (long row = from; row < to; row++)
                {
                    RmsNormRow(xND + (row * width), weightD, normedND + (row * width), width, (float)epsilon);
                }
            }
        );

    private static void Pieces(long items, long perPiece, int threads, Action<long, long> piece)
    {
        long pieces = (items + perPiece - 1) / perPiece;
        if (pieces <= 1)
        {
            piece(0, items);
            return;
        }
        Parallel.For(
            0,
            pieces,
            new ParallelOptions { MaxDegreeOfParallelism = threads },
            i => piece(i * perPiece, Math.Min(items, (i + 1) * perPiece))
        );
    }

    private static void GeluTanhPiece(float* x, long length)
    {
        long i = 0;
        for (; i <= length - Lanes; i += Lanes)
        {
            GeluTanh(Vector512.Load(x + i)).Store(x + i);
        }
        for (; i < length; i++)
        {
            x[i] = GeluTanh(Vector512.CreateScalar(x[i])).ToScalar();
        }
    }

    /// <summary>0.5 x (1 + tanh u) is x / (1 + e^-2u).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> GeluTanh(Vector512<float> x)
    {
        const float RootTwoOverPi = 0.797884561f;
        var inner = Vector512.FusedMultiplyAdd(
            x * x,
            Vector512.Create(2 * RootTwoOverPi * 0.044715f),
            Vector512.Create(2 * RootTwoOverPi)
        );
        return x * FastExp.Sigmoid(x * inner);
    }

    private static void SiluGateRow(float* gateUp, float* gated, int width)
    {
        int i = 0;
        for (; i <= width - Lanes; i += Lanes)
        {
            var gate = Vector512.Load(gateUp + i);
            (gate * FastExp.Sigmoid(gate) * Vector512.Load(gateUp + width + i)).Store(gated + i);
        }
        for (; i < width; i++)
        {
            var gate = Vector512.CreateScalar(gateUp[i]);
            gated[i] = (gate * FastExp.Sigmoid(gate)).ToScalar() * gateUp[width + i];
        }
    }

    private static void RmsNormRow(float* x, float* weight, float* normed, int width, float epsilon)
    {
        var (even, odd) = (Vector512<float>.Zero, Vector512<float>.Zero);
        int i = 0;
        for (; i <= width - (2 * Lanes); i += 2 * Lanes)
        {
            var (a, b) = (Vector512.Load(x + i), Vector512.Load(x + i + Lanes));
            even = Vector512.FusedMultiplyAdd(a, a, even);
            odd = Vector512.FusedMultiplyAdd(b, b, odd);
        }
        float squares = Vector512.Sum(even + odd);
        for (; i < width; i++)
        {
            squares += x[i] * x[i];
        }
        float factor = 1 / MathF.Sqrt((squares / width) + epsilon);
        for (i = 0; i <= width - Lanes; i += Lanes)
        {
            (Vector512.Load(x + i) * Vector512.Create(factor) * Vector512.Load(weight + i)).Store(normed + i);
        }
        for (; i < width; i++)
        {
            normed[i] = x[i] * factor * weight[i];
        }
    }
}
