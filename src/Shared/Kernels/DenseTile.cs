using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// A tile of a dense product x Wᵀ + b in float32: 8 rows of x by 48 of W, each packed so that what is multiplied at a time lies
/// together. Sums run along D in order. Loops that hold vectors call nothing, since a call would spill them.
/// </summary>
public static unsafe class DenseTile
{
    /// <summary>Rows of x.</summary>
    public const int Rows = 8;

    /// <summary>Rows of W, columns of the product: a block of <see cref="Panels"/>.</summary>
    public const int Columns = Panels.BlockRows;

    /// <summary>Lays a row of x, or of W, out among those it is multiplied together with.</summary>
    /// <param name="row">D values.</param>
    /// <param name="packed">[rows / group][D][group].</param>
    /// <param name="at">Which row of it.</param>
    /// <param name="group"><see cref="Rows"/> or <see cref="Columns"/>.</param>
    public static void Put(ReadOnlySpan<float> row, float* packed, int at, int group)
    {
        float* to = packed + ((long)(at / group) * group * row.Length) + (at % group);
        foreach (float value in row)
        {
            *to = value;
            to += group;
        }
    }

    /// <summary>Computes a tile.</summary>
    /// <param name="x">[D][8].</param>
    /// <param name="w">[D][48].</param>
    /// <param name="bias">b, 48 values.</param>
    /// <param name="depth">D.</param>
    /// <param name="targets">8 rows of 48 values.</param>
    /// <param name="step">From one of them to the next.</param>
    /// <param name="width">Which form runs.</param>
    public static void Multiply(float* x, float* w, float* bias, int depth, float* targets, nint step, SimdWidth width)
    {
        switch (width)
        {
            case SimdWidth.Vector512:
                Multiply8By48(x, w, bias, depth, targets, step);
                break;
            case SimdWidth.Vector256:
                for (int row = 0; row < Rows; row += 4)
                {
                    for (int column = 0; column < Columns; column += 3 * Vector256<float>.Count)
                    {
                        Multiply4By24(x + row, w + column, bias + column, depth, targets + (row * step) + column, step);
                    }
                }
                break;
            default:
                MultiplyScalars(x, w, bias, depth, targets, step);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Multiply8By48(float* x, float* w, float* bias, int depth, float* targets, nint step)
    {
        var start0 = Vector512.Load(bias);
        var start1 = Vector512.Load(bias + 16);
        var start2 = Vector512.Load(bias + 32);
        var sum00 = start0;
        var sum01 = start1;
        var sum02 = start2;
        var sum10 = start0;
        var sum11 = start1;
        var sum12 = start2;
        var sum20 = start0;
        var sum21 = start1;
        var sum22 = start2;
        var sum30 = start0;
        var sum31 = start1;
        var sum32 = start2;
        var sum40 = start0;
        var sum41 = start1;
        var sum42 = start2;
        var sum50 = start0;
        var sum51 = start1;
        var sum52 = start2;
        var sum60 = start0;
        var sum61 = start1;
        var sum62 = start2;
        var sum70 = start0;
        var sum71 = start1;
        var sum72 = start2;
        for (int d = 0; d < depth; d++, x += Rows, w += Columns)
        {
            var w0 = Vector512.Load(w);
            var w1 = Vector512.Load(w + 16);
            var w2 = Vector512.Load(w + 32);
            var x0 = Vector512.Create(x[0]);
            sum00 = Vector512.FusedMultiplyAdd(x0, w0, sum00);
            sum01 = Vector512.FusedMultiplyAdd(x0, w1, sum01);
            sum02 = Vector512.FusedMultiplyAdd(x0, w2, sum02);
            var x1 = Vector512.Create(x[1]);
            sum10 = Vector512.FusedMultiplyAdd(x1, w0, sum10);
            sum11 = Vector512.FusedMultiplyAdd(x1, w1, sum11);
            sum12 = Vector512.FusedMultiplyAdd(x1, w2, sum12);
            var x2 = Vector512.Create(x[2]);
            sum20 = Vector512.FusedMultiplyAdd(x2, w0, sum20);
            sum21 = Vector512.FusedMultiplyAdd(x2, w1, sum21);
            sum22 = Vector512.FusedMultiplyAdd(x2, w2, sum22);
            var x3 = Vector512.Create(x[3]);
            sum30 = Vector512.FusedMultiplyAdd(x3, w0, sum30);
            sum31 = Vector512.FusedMultiplyAdd(x3, w1, sum31);
            sum32 = Vector512.FusedMultiplyAdd(x3, w2, sum32);
            var x4 = Vector512.Create(x[4]);
            sum40 = Vector512.FusedMultiplyAdd(x4, w0, sum40);
            sum41 = Vector512.FusedMultiplyAdd(x4, w1, sum41);
            sum42 = Vector512.FusedMultiplyAdd(x4, w2, sum42);
            var x5 = Vector512.Create(x[5]);
            sum50 = Vector512.FusedMultiplyAdd(x5, w0, sum50);
            sum51 = Vector512.FusedMultiplyAdd(x5, w1, sum51);
            sum52 = Vector512.FusedMultiplyAdd(x5, w2, sum52);
            var x6 = Vector512.Create(x[6]);
            sum60 = Vector512.FusedMultiplyAdd(x6, w0, sum60);
            sum61 = Vector512.FusedMultiplyAdd(x6, w1, sum61);
            sum62 = Vector512.FusedMultiplyAdd(x6, w2, sum62);
            var x7 = Vector512.Create(x[7]);
            sum70 = Vector512.FusedMultiplyAdd(x7, w0, sum70);
            sum71 = Vector512.FusedMultiplyAdd(x7, w1, sum71);
            sum72 = Vector512.FusedMultiplyAdd(x7, w2, sum72);
        }
        sum00.Store(targets);
        sum01.Store(targets + 16);
        sum02.Store(targets + 32);
        sum10.Store(targets + step);
        sum11.Store(targets + step + 16);
        sum12.Store(targets + step + 32);
        sum20.Store(targets + (2 * step));
        sum21.Store(targets + (2 * step) + 16);
        sum22.Store(targets + (2 * step) + 32);
        sum30.Store(targets + (3 * step));
        sum31.Store(targets + (3 * step) + 16);
        sum32.Store(targets + (3 * step) + 32);
        sum40.Store(targets + (4 * step));
        sum41.Store(targets + (4 * step) + 16);
        sum42.Store(targets + (4 * step) + 32);
        sum50.Store(targets + (5 * step));
        sum51.Store(targets + (5 * step) + 16);
        sum52.Store(targets + (5 * step) + 32);
        sum60.Store(targets + (6 * step));
        sum61.Store(targets + (6 * step) + 16);
        sum62.Store(targets + (6 * step) + 32);
        sum70.Store(targets + (7 * step));
        sum71.Store(targets + (7 * step) + 16);
        sum72.Store(targets + (7 * step) + 32);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Multiply4By24(float* x, float* w, float* bias, int depth, float* targets, nint step)
    {
        var start0 = Vector256.Load(bias);
        var start1 = Vector256.Load(bias + 8);
        var start2 = Vector256.Load(bias + 16);
        var sum00 = start0;
        var sum01 = start1;
        var sum02 = start2;
        var sum10 = start0;
        var sum11 = start1;
        var sum12 = start2;
        var sum20 = start0;
        var sum21 = start1;
        var sum22 = start2;
        var sum30 = start0;
        var sum31 = start1;
        var sum32 = start2;
        for (int d = 0; d < depth; d++, x += Rows, w += Columns)
        {
            var w0 = Vector256.Load(w);
            var w1 = Vector256.Load(w + 8);
            var w2 = Vector256.Load(w + 16);
            var x0 = Vector256.Create(x[0]);
            sum00 = Vector256.FusedMultiplyAdd(x0, w0, sum00);
            sum01 = Vector256.FusedMultiplyAdd(x0, w1, sum01);
            sum02 = Vector256.FusedMultiplyAdd(x0, w2, sum02);
            var x1 = Vector256.Create(x[1]);
            sum10 = Vector256.FusedMultiplyAdd(x1, w0, sum10);
            sum11 = Vector256.FusedMultiplyAdd(x1, w1, sum11);
            sum12 = Vector256.FusedMultiplyAdd(x1, w2, sum12);
            var x2 = Vector256.Create(x[2]);
            sum20 = Vector256.FusedMultiplyAdd(x2, w0, sum20);
            sum21 = Vector256.FusedMultiplyAdd(x2, w1, sum21);
            sum22 = Vector256.FusedMultiplyAdd(x2, w2, sum22);
            var x3 = Vector256.Create(x[3]);
            sum30 = Vector256.FusedMultiplyAdd(x3, w0, sum30);
            sum31 = Vector256.FusedMultiplyAdd(x3, w1, sum31);
            sum32 = Vector256.FusedMultiplyAdd(x3, w2, sum32);
        }
        sum00.Store(targets);
        sum01.Store(targets + 8);
        sum02.Store(targets + 16);
        sum10.Store(targets + step);
        sum11.Store(targets + step + 8);
        sum12.Store(targets + step + 16);
        sum20.Store(targets + (2 * step));
        sum21.Store(targets + (2 * step) + 8);
        sum22.Store(targets + (2 * step) + 16);
        sum30.Store(targets + (3 * step));
        sum31.Store(targets + (3 * step) + 8);
        sum32.Store(targets + (3 * step) + 16);
    }

    private static void MultiplyScalars(float* x, float* w, float* bias, int depth, float* targets, nint step)
    {
        for (int row = 0; row < Rows; row++)
        {
            for (int column = 0; column < Columns; column++)
            {
                float sum = bias[column];
                for (int d = 0; d < depth; d++)
                {
                    sum += x[(d * Rows) + row] * w[(d * Columns) + column];
                }
                targets[(row * step) + column] = sum;
            }
        }
    }
}
