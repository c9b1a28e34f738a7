using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Exact selection of the n largest positive values of many rows together. Only what exceeds a floor is kept while the rows pass
/// by; a floor guessed too high is lowered and the rows pass by again:
/// <code>
/// Guess(first rows) ─> Collect(each row), in parallel ─> NeedsAnotherPass ─> Collect ... ─> Choose
/// </code>
/// </summary>
/// <param name="rows">B.</param>
public sealed class BatchSelect(int rows)
{
    /// <summary>A share of what would be the least value kept, were all rows like the first: low enough for most batches.</summary>
    private const float Caution = 0.8f;

    /// <summary>Below this, halving the floor would take long to reach the values.</summary>
    private const float SmallestFloor = 1e-6f;

    private readonly Candidates[] candidatesB = [.. Enumerable.Range(0, rows).Select(_ => new Candidates())];
    private float[] all = [];
    private float floor;

    /// <summary>Rows from which the floor is guessed.</summary>
    public const int SampledRows = 16;

    /// <summary>Begins a selection.</summary>
    /// <param name="sample">Some rows' values, one row after the other; none is NaN.</param>
    /// <param name="bias">Added to each row.</param>
    /// <param name="k">How many of a row are kept on average.</param>
    public void Guess(ReadOnlySpan<float> sample, ReadOnlySpan<float> bias, int k)
    {
        int sampled = sample.Length / bias.Length;
        var sums = new float[sample.Length];
        for (int row = 0; row < sampled; row++)
        {
            var span = (row * bias.Length)..((row + 1) * bias.Length);
            TensorPrimitives.Add(sample[span], bias, sums.AsSpan(span));
        }
        floor = Math.Max(0, Caution * ThresholdSelect.NthLargest(sums, Math.Min(sums.Length, sampled * k)));
    }

    /// <summary>Keeps what of a row exceeds the floor; rows may come in any order and at the same time.</summary>
    /// <param name="row">Which.</param>
    /// <param name="values">Its values; none is NaN.</param>
    /// <param name="bias">Added to them, as long.</param>
    /// <param name="width">Which form runs.</param>
    public void Collect(int row, ReadOnlySpan<float> values, ReadOnlySpan<float> bias, SimdWidth width) =>
        candidatesB[row].Collect(values, bias, floor, width);

    /// <summary>Whether the floor was too high; it is lower now, and every row is to be collected again.</summary>
    /// <param name="wanted">How many are to be chosen.</param>
    public bool NeedsAnotherPass(int wanted)
    {
        if (floor == 0 || Found() >= wanted)
        {
            return false;
        }
        floor = floor < SmallestFloor ? 0 : floor / 2;
        return true;
    }

    /// <summary>The <paramref name="wanted"/> largest, or all where fewer are positive; of equal values the earlier.</summary>
    /// <param name="wanted">How many.</param>
    /// <param name="firstB">Receives where a row's entries begin.</param>
    /// <param name="endB">And end.</param>
    /// <param name="indices">Receives where in their rows the chosen are, by row, ascending.</param>
    /// <param name="values">Receives their values.</param>
    public void Choose(int wanted, Span<int> firstB, Span<int> endB, Span<int> indices, Span<float> values)
    {
        int found = Found();
        bool isChoice = found > wanted;
        float least = 0;
        int equal = 0; // of the values equal to the least, as many as there is room for
        if (isChoice)
        {
            least = LeastChosen(found, wanted);
            equal = wanted;
            foreach (float value in all.AsSpan(0, found))
            {
                equal -= value > least ? 1 : 0;
            }
        }
        int entry = 0;
        for (int row = 0; row < candidatesB.Length; row++)
        {
            firstB[row] = entry;
            var rowIndices = candidatesB[row].Indices;
            var rowValues = candidatesB[row].Values;
            for (int i = 0; i < rowValues.Length; i++)
            {
                float value = rowValues[i];
                if (value > least || (isChoice && value == least && equal-- > 0))
                {
                    (indices[entry], values[entry++]) = (rowIndices[i], value);
                }
            }
            endB[row] = entry;
        }
    }

    private int Found() => candidatesB.Sum(candidates => candidates.Count);

    private float LeastChosen(int found, int wanted)
    {
        if (all.Length < found)
        {
            all = new float[found];
        }
        int at = 0;
        foreach (var candidates in candidatesB)
        {
            candidates.Values.CopyTo(all.AsSpan(at));
            at += candidates.Count;
        }
        return ThresholdSelect.NthLargest(all.AsSpan(0, found), wanted);
    }

    /// <summary>A row's values above the floor.</summary>
    private sealed class Candidates
    {
        private int[] indices = [];
        private float[] values = [];

        public int Count { get; private set; }

        public ReadOnlySpan<int> Indices => indices.AsSpan(0, Count);

        public ReadOnlySpan<float> Values => values.AsSpan(0, Count);

        public void Collect(ReadOnlySpan<float> row, ReadOnlySpan<float> bias, float floor, SimdWidth width) =>
            Count = ThresholdSelect.Above(row, bias, floor, ref indices, ref values, width);
    }
}
