using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>What a scan finds goes here.</summary>
internal interface IScanned
{
    /// <summary>What a value must exceed to be of interest; it may rise as values come in.</summary>
    float Floor { get; }

    /// <summary>Takes a value, unless the floor has meanwhile reached it.</summary>
    void Offer(int index, float value);
}

/// <summary>One reading of a row and its bias, which passes over blocks that hold nothing above the floor.</summary>
internal static class ThresholdScan
{
    /// <summary>Offers the values of <paramref name="row"/> + <paramref name="bias"/> above the floor, in ascending order of index.</summary>
    /// <param name="row">The values; none is NaN.</param>
    /// <param name="bias">Added to them, as long.</param>
    /// <param name="found">Receives the sums; a struct, so that its calls cost nothing.</param>
    /// <param name="width">Which form runs.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    public static void Run<T>(ReadOnlySpan<float> row, ReadOnlySpan<float> bias, ref T found, SimdWidth width)
        where T : struct, IScanned, allows ref struct
    {
        if (bias.Length != row.Length)
        {
            throw new ArgumentException($"{row.Length} values, {bias.Length} biases.");
        }
        ref float first = ref MemoryMarshal.GetReference(row);
        ref float firstBias = ref MemoryMarshal.GetReference(bias);
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            for (; i <= row.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                var sums = Vector512.LoadUnsafe(ref first, (nuint)i) + Vector512.LoadUnsafe(ref firstBias, (nuint)i);
                ulong above = Vector512.GreaterThan(sums, Vector512.Create(found.Floor)).ExtractMostSignificantBits();
                for (; above != 0; above &= above - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(above);
                    found.Offer(i + lane, sums[lane]);
                }
            }
        }
        else if (width == SimdWidth.Vector256)
        {
            for (; i <= row.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                var sums = Vector256.LoadUnsafe(ref first, (nuint)i) + Vector256.LoadUnsafe(ref firstBias, (nuint)i);
                uint above = Vector256.GreaterThan(sums, Vector256.Create(found.Floor)).ExtractMostSignificantBits();
                for (; above != 0; above &= above - 1)
                {
                    int lane = BitOperations.TrailingZeroCount(above);
                    found.Offer(i + lane, sums[lane]);
                }
            }
        }
        for (; i < row.Length; i++)
        {
            found.Offer(i, row[i] + bias[i]);
        }
    }
}
