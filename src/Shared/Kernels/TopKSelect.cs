using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>Exact selection of the largest positive values of a row.</summary>
public static class TopKSelect
{
    /// <summary>
    /// Finds the <paramref name="indices"/>.Length largest values of <paramref name="row"/> + <paramref name="bias"/> that are
    /// positive, in ascending order of index. Of equal values at the boundary the earlier ones are kept.
    /// </summary>
    /// <param name="row">The values; none is NaN.</param>
    /// <param name="bias">Added to them, as long.</param>
    /// <param name="indices">Receives where they are.</param>
    /// <param name="values">Receives the sums, as long as <paramref name="indices"/>.</param>
    /// <param name="width">Which form runs.</param>
    /// <returns>How many were found: fewer than asked for where fewer are positive.</returns>
    public static int Positive(
        ReadOnlySpan<float> row,
        ReadOnlySpan<float> bias,
        Span<int> indices,
        Span<float> values,
        SimdWidth width
    )
    {
        if (indices.Length != values.Length)
        {
            throw new ArgumentException($"{indices.Length} indices, {values.Length} values.");
        }
        var heap = new MinHeap(indices, values);
        Scan(row, bias, ref heap, width);
        indices[..heap.Count].Sort(values[..heap.Count]);
        return heap.Count;
    }

    /// <summary>
    /// Offers the values of <paramref name="row"/> + <paramref name="bias"/> above the heap's floor, in ascending order of index,
    /// in one reading that passes over blocks that hold none.
    /// </summary>
    /// <param name="row">The values; none is NaN.</param>
    /// <param name="bias">Added to them, as long.</param>
    /// <param name="found">Receives the sums; its floor rises as they come in.</param>
    /// <param name="width">Which form runs.</param>
    /// <exception cref="ArgumentException">The lengths differ.</exception>
    private static void Scan(ReadOnlySpan<float> row, ReadOnlySpan<float> bias, ref MinHeap found, SimdWidth width)
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

    /// <summary>The values kept so far, the least at the root; of equal values the later index counts as less.</summary>
    private ref struct MinHeap(Span<int> indices, Span<float> values)
    {
        private readonly Span<int> indices = indices;
        private readonly Span<float> values = values;

        public int Count { get; private set; }

        /// <summary>What a value must exceed to be of interest.</summary>
        public float Floor { get; private set; }

        /// <summary>Takes a value, unless the floor has meanwhile reached it.</summary>
        public void Offer(int index, float value)
        {
            if (value <= Floor)
            {
                return;
            }
            if (Count < indices.Length)
            {
                SiftUp(Count++, index, value);
            }
            else
            {
                SiftDown(index, value);
            }
            Floor = Count == indices.Length ? values[0] : 0;
        }

        private void SiftUp(int at, int index, float value)
        {
            while (at > 0)
            {
                int parent = (at - 1) / 2;
                if (!IsLess(index, value, indices[parent], values[parent]))
                {
                    break;
                }
                (indices[at], values[at]) = (indices[parent], values[parent]);
                at = parent;
            }
            (indices[at], values[at]) = (index, value);
        }

        /// <summary>Replaces the root.</summary>
        private void SiftDown(int index, float value)
        {
            int at = 0;
            while ((2 * at) + 1 < Count)
            {
                int child = (2 * at) + 1;
                if (child + 1 < Count && IsLess(indices[child + 1], values[child + 1], indices[child], values[child]))
                {
                    child++;
                }
                if (!IsLess(indices[child], values[child], index, value))
                {
                    break;
                }
                (indices[at], values[at]) = (indices[child], values[child]);
                at = child;
            }
            (indices[at], values[at]) = (index, value);
        }

        private static bool IsLess(int leftIndex, float left, int rightIndex, float right) =>
            left < right || (left == right && leftIndex > rightIndex);
    }
}
