using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Products of some rows of a matrix, named by number, with a vector: all that a sparse code asks of its dictionary. What goes
/// on from row to row stays in registers. Loops that hold vectors call nothing, since a call would spill them.
/// </summary>
public static unsafe class GatheredRows
{
    /// <summary>Vectors of 512 bits whose sums are in registers at a time.</summary>
    private const int VectorsAtATime = 8;

    /// <summary>Adds rows, each times its weight, in their order.</summary>
    /// <param name="matrix">Row-major, as wide as <paramref name="sum"/>.</param>
    /// <param name="rows">Which of its rows.</param>
    /// <param name="weights">As many.</param>
    /// <param name="sum">What they are added to.</param>
    /// <param name="width">Which form runs.</param>
    public static void Add(
        float* matrix,
        ReadOnlySpan<int> rows,
        ReadOnlySpan<float> weights,
        Span<float> sum,
        SimdWidth width
    )
    {
        RequireEqual(rows.Length, weights.Length);
        int pitch = sum.Length;
        int at = 0;
        if (width == SimdWidth.Vector512)
        {
            fixed (int* rowsN = rows)
            fixed (
                float* weightsN = weights,
                    sumD = sum
            )
            {
                for (; at <= pitch - (VectorsAtATime * 16); at += VectorsAtATime * 16)
                {
                    Add8Of512(matrix + at, pitch, rowsN, weightsN, rows.Length, sumD + at);
                }
                for (; at <= pitch - 16; at += 16)
                {
                    Add1Of512(matrix + at, pitch, rowsN, weightsN, rows.Length, sumD + at);
                }
            }
        }
        for (int n = 0; n < rows.Length && at < pitch; n++)
        {
            var rest = new ReadOnlySpan<float>(matrix + ((nint)rows[n] * pitch) + at, pitch - at);
            TensorPrimitives.FusedMultiplyAdd(rest, weights[n], sum[at..], sum[at..]);
        }
    }

    /// <summary>The product of each row with a vector; one row's is the same whatever the others are.</summary>
    /// <param name="matrix">Row-major, as wide as <paramref name="x"/>.</param>
    /// <param name="rows">Which of its rows.</param>
    /// <param name="x">The vector.</param>
    /// <param name="products">Receives as many.</param>
    /// <param name="width">Which form runs.</param>
    public static void Dot(
        float* matrix,
        ReadOnlySpan<int> rows,
        ReadOnlySpan<float> x,
        Span<float> products,
        SimdWidth width
    )
    {
        RequireEqual(rows.Length, products.Length);
        int pitch = x.Length;
        if (width != SimdWidth.Vector512)
        {
            for (int n = 0; n < rows.Length; n++)
            {
                products[n] = TensorPrimitives.Dot(new(matrix + ((nint)rows[n] * pitch), pitch), x);
            }
            return;
        }
        const int Together = 4; // rows that share what is loaded of x
        float* four = stackalloc float[Together];
        fixed (float* xD = x)
        {
            for (int n = 0; n < rows.Length; n += Together)
            {
                int last = rows.Length - 1;
                Dot4Of512(
                    matrix + ((nint)rows[n] * pitch),
                    matrix + ((nint)rows[Math.Min(n + 1, last)] * pitch),
                    matrix + ((nint)rows[Math.Min(n + 2, last)] * pitch),
                    matrix + ((nint)rows[Math.Min(n + 3, last)] * pitch),
                    xD,
                    pitch,
                    four
                );
                new ReadOnlySpan<float>(four, Math.Min(Together, rows.Length - n)).CopyTo(products[n..]);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add8Of512(float* matrix, nint pitch, int* rows, float* weights, int count, float* sum)
    {
        var sum0 = Vector512.Load(sum);
        var sum1 = Vector512.Load(sum + 16);
        var sum2 = Vector512.Load(sum + 32);
        var sum3 = Vector512.Load(sum + 48);
        var sum4 = Vector512.Load(sum + 64);
        var sum5 = Vector512.Load(sum + 80);
        var sum6 = Vector512.Load(sum + 96);
        var sum7 = Vector512.Load(sum + 112);
        for (int n = 0; n < count; n++)
        {
            float* row = matrix + (rows[n] * pitch);
            var weight = Vector512.Create(weights[n]);
            sum0 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row), sum0);
            sum1 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 16), sum1);
            sum2 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 32), sum2);
            sum3 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 48), sum3);
            sum4 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 64), sum4);
            sum5 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 80), sum5);
            sum6 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 96), sum6);
            sum7 = Vector512.FusedMultiplyAdd(weight, Vector512.Load(row + 112), sum7);
        }
        sum0.Store(sum);
        sum1.Store(sum + 16);
        sum2.Store(sum + 32);
        sum3.Store(sum + 48);
        sum4.Store(sum + 64);
        sum5.Store(sum + 80);
        sum6.Store(sum + 96);
        sum7.Store(sum + 112);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Add1Of512(float* matrix, nint pitch, int* rows, float* weights, int count, float* sum)
    {
        var sum0 = Vector512.Load(sum);
        for (int n = 0; n < count; n++)
        {
            var row = Vector512.Load(matrix + (rows[n] * pitch));
            sum0 = Vector512.FusedMultiplyAdd(Vector512.Create(weights[n]), row, sum0);
        }
        sum0.Store(sum);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Dot4Of512(float* row0, float* row1, float* row2, float* row3, float* x, int length, float* four)
    {
        var sum0 = Vector512<float>.Zero;
        var sum1 = Vector512<float>.Zero;
        var sum2 = Vector512<float>.Zero;
        var sum3 = Vector512<float>.Zero;
        int i = 0;
        for (; i <= length - 16; i += 16)
        {
            var values = Vector512.Load(x + i);
            sum0 = Vector512.FusedMultiplyAdd(Vector512.Load(row0 + i), values, sum0);
            sum1 = Vector512.FusedMultiplyAdd(Vector512.Load(row1 + i), values, sum1);
            sum2 = Vector512.FusedMultiplyAdd(Vector512.Load(row2 + i), values, sum2);
            sum3 = Vector512.FusedMultiplyAdd(Vector512.Load(row3 + i), values, sum3);
        }
        four[0] = Vector512.Sum(sum0);
        four[1] = Vector512.Sum(sum1);
        four[2] = Vector512.Sum(sum2);
        four[3] = Vector512.Sum(sum3);
        for (; i < length; i++)
        {
            four[0] += row0[i] * x[i];
            four[1] += row1[i] * x[i];
            four[2] += row2[i] * x[i];
            four[3] += row3[i] * x[i];
        }
    }

    private static void RequireEqual(int rows, int values)
    {
        if (rows != values)
        {
            throw new ArgumentException($"{rows} rows, {values} values.");
        }
    }
}
