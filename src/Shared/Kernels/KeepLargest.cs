using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Exact selection where what is kept is a large share of the row: positive floats order as their bits do, and the least kept
/// is found by narrowing the range of bits, each time counting what reaches a point between: by turns the middle, and where it
/// were if values lay evenly. A heap would move most values.
/// </summary>
public static class KeepLargest
{
    /// <summary>From a float's bits to those of its double.</summary>
    private const int OctaveBits = 1 << 23;

    /// <summary>Sets all but the <paramref name="k"/> largest positive values to 0, of equal ones keeping the earlier.</summary>
    /// <param name="values">A row; none is NaN.</param>
    /// <param name="k">How many to keep; where fewer are positive, those.</param>
    /// <param name="width">Which form runs.</param>
    public static void Positive(Span<float> values, int k, SimdWidth width)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        var bits = MemoryMarshal.Cast<float, int>(values);
        int least = 1;
        if (CountFrom(bits, least, width) > k)
        {
            least = LeastKept(bits, k, width);
        }
        int surplus = CountFrom(bits, least, width) - k;
        for (int i = bits.Length - 1; surplus > 0; i--)
        {
            if (bits[i] == least)
            {
                bits[i] = 0;
                surplus--;
            }
        }
        ZeroBelow(bits, least, width);
    }

    /// <summary>The <paramref name="k"/>-th largest value, or a smaller one that no more values reach; 0 where fewer are positive.</summary>
    /// <param name="values">None is NaN.</param>
    /// <param name="k">From 1.</param>
    /// <param name="width">Which form runs.</param>
    public static float LeastOf(ReadOnlySpan<float> values, int k, SimdWidth width)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(k, 1);
        var bits = MemoryMarshal.Cast<float, int>(values);
        return CountFrom(bits, 1, width) < k ? 0 : BitConverter.Int32BitsToSingle(LeastKept(bits, k, width));
    }

    /// <summary>The bits of the k-th largest, or any smaller ones that as many values reach; at least k are positive.</summary>
    private static int LeastKept(ReadOnlySpan<int> bits, int k, SimdWidth width)
    {
        var (tooFew, fewer) = (TensorPrimitives.Max(bits) + 1, 0); // so many reach it, and it is too few
        var (enough, count) = (tooFew, 0);
        for (int step = OctaveBits; count < k; step *= 2)
        {
            (tooFew, fewer) = (enough, count);
            enough = Math.Max(1, enough - step);
            count = CountFrom(bits, enough, width);
        }
        for (bool halves = false; count != k && tooFew - enough > 1; halves = !halves)
        {
            double share = halves ? 0.5 : (count - k) / (double)(count - fewer);
            int middle = Math.Clamp(enough + (int)(share * (tooFew - enough)), enough + 1, tooFew - 1);
            int reaching = CountFrom(bits, middle, width);
            if (reaching < k)
            {
                (tooFew, fewer) = (middle, reaching);
            }
            else
            {
                (enough, count) = (middle, reaching);
            }
        }
        return enough;
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int CountFrom(ReadOnlySpan<int> bits, int least, SimdWidth width)
    {
        ref int first = ref MemoryMarshal.GetReference(bits);
        int count = 0;
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            var leasts = Vector512.Create(least);
            for (; i <= bits.Length - Vector512<int>.Count; i += Vector512<int>.Count)
            {
                var reached = Vector512.GreaterThanOrEqual(Vector512.LoadUnsafe(ref first, (nuint)i), leasts);
                count += BitOperations.PopCount(reached.ExtractMostSignificantBits());
            }
        }
        else if (width == SimdWidth.Vector256)
        {
            var leasts = Vector256.Create(least);
            for (; i <= bits.Length - Vector256<int>.Count; i += Vector256<int>.Count)
            {
                var reached = Vector256.GreaterThanOrEqual(Vector256.LoadUnsafe(ref first, (nuint)i), leasts);
                count += BitOperations.PopCount(reached.ExtractMostSignificantBits());
            }
        }
        for (; i < bits.Length; i++)
        {
            count += bits[i] >= least ? 1 : 0;
        }
        return count;
    }

    private static void ZeroBelow(Span<int> bits, int least, SimdWidth width)
    {
        ref int first = ref MemoryMarshal.GetReference(bits);
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            for (; i <= bits.Length - Vector512<int>.Count; i += Vector512<int>.Count)
            {
                var some = Vector512.LoadUnsafe(ref first, (nuint)i);
                (some & Vector512.GreaterThanOrEqual(some, Vector512.Create(least))).StoreUnsafe(ref first, (nuint)i);
            }
        }
        else if (width == SimdWidth.Vector256)
        {
            for (; i <= bits.Length - Vector256<int>.Count; i += Vector256<int>.Count)
            {
                var some = Vector256.LoadUnsafe(ref first, (nuint)i);
                (some & Vector256.GreaterThanOrEqual(some, Vector256.Create(least))).StoreUnsafe(ref first, (nuint)i);
            }
        }
        for (; i < bits.Length; i++)
        {
            bits[i] = bits[i] >= least ? bits[i] : 0;
        }
    }
}
