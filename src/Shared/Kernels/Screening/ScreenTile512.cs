using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels.Screening;

/// <summary>4 rows by 64 latents in 16 registers of 512 bits.</summary>
internal readonly struct ScreenTile512 : IScreenTile
{
    private const int Lanes = 16;

    public static int Latents => 4 * Lanes;

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    public static unsafe void Multiply(int* xPR, int* wPL, int pairs, int* sumsRL)
    {
        var sum00 = Vector512<int>.Zero;
        var sum01 = Vector512<int>.Zero;
        var sum02 = Vector512<int>.Zero;
        var sum03 = Vector512<int>.Zero;
        var sum10 = Vector512<int>.Zero;
        var sum11 = Vector512<int>.Zero;
        var sum12 = Vector512<int>.Zero;
        var sum13 = Vector512<int>.Zero;
        var sum20 = Vector512<int>.Zero;
        var sum21 = Vector512<int>.Zero;
        var sum22 = Vector512<int>.Zero;
        var sum23 = Vector512<int>.Zero;
        var sum30 = Vector512<int>.Zero;
        var sum31 = Vector512<int>.Zero;
        var sum32 = Vector512<int>.Zero;
        var sum33 = Vector512<int>.Zero;
        for (int p = 0; p < pairs; p++, xPR += IScreenTile.Rows, wPL += 4 * Lanes)
        {
            var w0 = Vector512.Load(wPL).AsInt16();
            var w1 = Vector512.Load(wPL + Lanes).AsInt16();
            var w2 = Vector512.Load(wPL + (2 * Lanes)).AsInt16();
            var w3 = Vector512.Load(wPL + (3 * Lanes)).AsInt16();
            var x0 = Vector512.Create(xPR[0]).AsInt16();
            sum00 += Avx512BW.MultiplyAddAdjacent(x0, w0);
            sum01 += Avx512BW.MultiplyAddAdjacent(x0, w1);
            sum02 += Avx512BW.MultiplyAddAdjacent(x0, w2);
            sum03 += Avx512BW.MultiplyAddAdjacent(x0, w3);
            var x1 = Vector512.Create(xPR[1]).AsInt16();
            sum10 += Avx512BW.MultiplyAddAdjacent(x1, w0);
            sum11 += Avx512BW.MultiplyAddAdjacent(x1, w1);
            sum12 += Avx512BW.MultiplyAddAdjacent(x1, w2);
            sum13 += Avx512BW.MultiplyAddAdjacent(x1, w3);
            var x2 = Vector512.Create(xPR[2]).AsInt16();
            sum20 += Avx512BW.MultiplyAddAdjacent(x2, w0);
            sum21 += Avx512BW.MultiplyAddAdjacent(x2, w1);
            sum22 += Avx512BW.MultiplyAddAdjacent(x2, w2);
            sum23 += Avx512BW.MultiplyAddAdjacent(x2, w3);
            var x3 = Vector512.Create(xPR[3]).AsInt16();
            sum30 += Avx512BW.MultiplyAddAdjacent(x3, w0);
            sum31 += Avx512BW.MultiplyAddAdjacent(x3, w1);
            sum32 += Avx512BW.MultiplyAddAdjacent(x3, w2);
            sum33 += Avx512BW.MultiplyAddAdjacent(x3, w3);
        }
        sum00.Store(sumsRL);
        sum01.Store(sumsRL + Lanes);
        sum02.Store(sumsRL + (2 * Lanes));
        sum03.Store(sumsRL + (3 * Lanes));
        sum10.Store(sumsRL + (4 * Lanes));
        sum11.Store(sumsRL + (5 * Lanes));
        sum12.Store(sumsRL + (6 * Lanes));
        sum13.Store(sumsRL + (7 * Lanes));
        sum20.Store(sumsRL + (8 * Lanes));
        sum21.Store(sumsRL + (9 * Lanes));
        sum22.Store(sumsRL + (10 * Lanes));
        sum23.Store(sumsRL + (11 * Lanes));
        sum30.Store(sumsRL + (12 * Lanes));
        sum31.Store(sumsRL + (13 * Lanes));
        sum32.Store(sumsRL + (14 * Lanes));
        sum33.Store(sumsRL + (15 * Lanes));
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
        var floors = Vector512.Create(floor);
        var any = Vector512<float>.Zero;
        for (int at = 0; at < Latents; at += Lanes)
        {
            any |= Vector512.GreaterThanOrEqual(Bound(sumsL + at, scalesL + at, biasesL + at, xScale, slack), floors);
        }
        if (any.AsInt32() == Vector512<int>.Zero)
        {
            return 0;
        }
        int count = 0;
        for (int at = 0; at < Latents; at += Lanes)
        {
            var most = Bound(sumsL + at, scalesL + at, biasesL + at, xScale, slack);
            var least = Bound(sumsL + at, scalesL + at, biasesL + at, xScale, -slack);
            // Without a branch: whether a latent is enough cannot be foretold.
            var enough = Vector512.GreaterThanOrEqual(most, floors);
            var numbers = Vector512.Create(first + at) + Vector512<int>.Indices;
            Avx512F.Compress(Vector512<int>.Zero, enough.AsInt32(), numbers).Store(found.Latents + count);
            Avx512F.Compress(Vector512<float>.Zero, enough, most).Store(found.Most + count);
            Avx512F.Compress(Vector512<float>.Zero, enough, least).Store(found.Least + count);
            count += BitOperations.PopCount(enough.ExtractMostSignificantBits());
        }
        return count;
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe Vector512<float> Bound(int* sums, float* scales, float* biases, float xScale, float slack)
    {
        var product = Vector512.FusedMultiplyAdd(
            Vector512.ConvertToSingle(Vector512.Load(sums)),
            Vector512.Create(xScale),
            Vector512.Create(slack)
        );
        return Vector512.FusedMultiplyAdd(product, Vector512.Load(scales), Vector512.Load(biases));
    }
}
