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
        var found = new Growing(floor, indices, values);
        ThresholdScan.Run(row, bias, ref found, width);
        (indices, values) = (found.Indices, found.Values);
        return found.Count;
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

    /// <summary>All values above a floor that stays, in arrays that grow.</summary>
    private struct Growing(float floor, int[] indices, float[] values) : IScanned
    {
        public readonly float Floor => floor;

        public int[] Indices { get; private set; } = indices;

        public float[] Values { get; private set; } = values;

        public int Count { get; private set; }

        public void Offer(int index, float value)
        {
            if (value <= floor)
            {
                return;
            }
            if (Count == Indices.Length)
            {
                int length = Math.Max(16, 2 * Count);
                (Indices, Values) = (Grown(Indices, length), Grown(Values, length));
            }
            (Indices[Count], Values[Count]) = (index, value);
            Count++;
        }

        private static T[] Grown<T>(T[] array, int length)
        {
            Array.Resize(ref array, length);
            return array;
        }
    }
}
