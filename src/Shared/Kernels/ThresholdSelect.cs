using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>The parts of an exact selection of the largest values of many rows together.</summary>
public static class ThresholdSelect
{
    /// <summary>Finds the values of <paramref name="row"/> + <paramref name="bias"/> above a floor, in ascending order of index.</summary>
    /// <param name="row">The values; none is NaN.</param>
    /// <param name="bias">Added to them, as long.</param>
    /// <param name="floor">What a sum must exceed.</param>
    /// <param name="indices">Receives where they are; grown where it is too short.</param>
    /// <param name="values">Receives the sums, as long as <paramref name="indices"/>.</param>
    /// <param name="width">Which form runs.</param>
    /// <returns>How many were found.</returns>
    public static int Above(
        ReadOnlySpan<float> row,
        ReadOnlySpan<float> bias,
        float floor,
        ref int[] indices,
        ref float[] values,
        SimdWidth width
    )
    {
        if (bias.Length != row.Length)
        {
            throw new ArgumentException($"{row.Length} values, {bias.Length} biases.");
        }
        ref float first = ref MemoryMarshal.GetReference(row);
        ref float firstBias = ref MemoryMarshal.GetReference(bias);
        int found = 0;
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            var least = Vector512.Create(floor);
            for (; i <= row.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                var sums = Vector512.LoadUnsafe(ref first, (nuint)i) + Vector512.LoadUnsafe(ref firstBias, (nuint)i);
                ulong above = Vector512.GreaterThan(sums, least).ExtractMostSignificantBits();
                for (; above != 0; above &= above - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(above);
                    Add(i + lane, sums[lane], ref indices, ref values);
                }
            }
        }
        else if (width == SimdWidth.Vector256)
        {
            var least = Vector256.Create(floor);
            for (; i <= row.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                var sums = Vector256.LoadUnsafe(ref first, (nuint)i) + Vector256.LoadUnsafe(ref firstBias, (nuint)i);
                uint above = Vector256.GreaterThan(sums, least).ExtractMostSignificantBits();
                for (; above != 0; above &= above - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(above);
                    Add(i + lane, sums[lane], ref indices, ref values);
                }
            }
        }
        for (; i < row.Length; i++)
        {
            if (row[i] + bias[i] > floor)
            {
                Add(i, row[i] + bias[i], ref indices, ref values);
            }
        }
        return found;

        void Add(int index, float value, ref int[] indices, ref float[] values)
        {
            if (found == indices.Length)
            {
                Array.Resize(ref indices, Math.Max(16, 2 * found));
                Array.Resize(ref values, indices.Length);
            }
            (indices[found], values[found++]) = (index, value);
        }
    }

    /// <summary>The <paramref name="n"/>-th largest value, n from 1. Reorders the values (Hoare 1961, Quickselect).</summary>
    public static float NthLargest(Span<float> values, int n)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(n, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(n, values.Length);
        int wanted = n - 1;
        int low = 0;
        int high = values.Length - 1;
        while (low < high)
        {
            float pivot = Median(values[low], values[low + ((high - low) / 2)], values[high]);
            int i = low;
            int j = high;
            while (i <= j)
            {
                while (values[i] > pivot)
                {
                    i++;
                }
                while (values[j] < pivot)
                {
                    j--;
                }
                if (i <= j)
                {
                    (values[i], values[j]) = (values[j], values[i]);
                    i++;
                    j--;
                }
            }
            if (wanted <= j)
            {
                high = j;
            }
            else if (wanted >= i)
            {
                low = i;
            }
            else
            {
                break;
            }
        }
        return values[wanted];
    }

    private static float Median(float a, float b, float c) => MathF.Max(MathF.Min(a, b), MathF.Min(MathF.Max(a, b), c));
}
