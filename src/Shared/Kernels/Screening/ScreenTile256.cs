using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels.Screening;

/// <summary>4 rows by 16 latents in 8 registers of 256 bits.</summary>
internal readonly struct ScreenTile256 : IScreenTile
{
    private const int Lanes = 8;

    public static int Latents => 2 * Lanes;

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static unsafe void Multiply(int* xPR, int* wPL, int pairs, int* sumsRL)
    {
        var sum00 = Vector256<int>.Zero;
        var sum01 = Vector256<int>.Zero;
        var sum10 = Vector256<int>.Zero;
        var sum11 = Vector256<int>.Zero;
        var sum20 = Vector256<int>.Zero;
        var sum21 = Vector256<int>.Zero;
        var sum30 = Vector256<int>.Zero;
        var sum31 = Vector256<int>.Zero;
        for (int p = 0; p < pairs; p++, xPR += IScreenTile.Rows, wPL += 2 * Lanes)
        {
            var w0 = Vector256.Load(wPL).AsInt16();
            var w1 = Vector256.Load(wPL + Lanes).AsInt16();
            var x0 = Vector256.Create(xPR[0]).AsInt16();
            sum00 += Avx2.MultiplyAddAdjacent(x0, w0);
            sum01 += Avx2.MultiplyAddAdjacent(x0, w1);
            var x1 = Vector256.Create(xPR[1]).AsInt16();
            sum10 += Avx2.MultiplyAddAdjacent(x1, w0);
            sum11 += Avx2.MultiplyAddAdjacent(x1, w1);
            var x2 = Vector256.Create(xPR[2]).AsInt16();
            sum20 += Avx2.MultiplyAddAdjacent(x2, w0);
            sum21 += Avx2.MultiplyAddAdjacent(x2, w1);
            var x3 = Vector256.Create(xPR[3]).AsInt16();
            sum30 += Avx2.MultiplyAddAdjacent(x3, w0);
            sum31 += Avx2.MultiplyAddAdjacent(x3, w1);
        }
        sum00.Store(sumsRL);
        sum01.Store(sumsRL + Lanes);
        sum10.Store(sumsRL + (2 * Lanes));
        sum11.Store(sumsRL + (3 * Lanes));
        sum20.Store(sumsRL + (4 * Lanes));
        sum21.Store(sumsRL + (5 * Lanes));
        sum30.Store(sumsRL + (6 * Lanes));
        sum31.Store(sumsRL + (7 * Lanes));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static unsafe int Collect(
        int* sumsL,
        float* scalesL,
        float* biasesL,
        float xScale,
        float slack,
        float floor,
        int first,
        Candidates found
    )
    {
        int count = 0;
        for (int i = 0; i < Latents; i += Lanes)
        {
            var (sums, scales) = (Vector256.ConvertToSingle(Vector256.Load(sumsL + i)), Vector256.Load(scalesL + i));
            var biases = Vector256.Load(biasesL + i);
            var product = Vector256.FusedMultiplyAdd(sums, Vector256.Create(xScale), Vector256.Create(slack));
            var most = Vector256.FusedMultiplyAdd(product, scales, biases);
            product = Vector256.FusedMultiplyAdd(sums, Vector256.Create(xScale), Vector256.Create(-slack));
            var least = Vector256.FusedMultiplyAdd(product, scales, biases);
            uint enough = Vector256.GreaterThanOrEqual(most, Vector256.Create(floor)).ExtractMostSignificantBits();
            for (; enough != 0; enough &= enough - 1)
            {
                int lane = BitOperations.TrailingZeroCount(enough);
                found.Latents[count] = first + i + lane;
                found.Most[count] = most[lane];
                found.Least[count] = least[lane];
                count++;
            }
        }
        return count;
    }
}
