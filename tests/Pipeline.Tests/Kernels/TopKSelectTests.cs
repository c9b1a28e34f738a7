using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class TopKSelectTests
{
    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void Selection_is_what_sorting_gives_ties_to_the_earlier_index(SimdWidth width) =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-5, 9).ListOf().ToArbitrary(),
                Gen.Choose(1, 40).ToArbitrary(),
                (small, k) =>
                {
                    float[] row = [.. small.Select(v => v / 2f), .. Enumerable.Range(0, 37).Select(i => i % 7 - 3f)];
                    // Halves and quarters add up exactly, and often to the same.
                    float[] bias = [.. Enumerable.Range(0, row.Length).Select(i => (i % 5 / 4f) - 0.5f)];
                    float[] sums = [.. row.Zip(bias, (value, shift) => value + shift)];
                    int[] expected =
                    [
                        .. Enumerable
                            .Range(0, row.Length)
                            .Where(i => sums[i] > 0)
                            .OrderByDescending(i => sums[i])
                            .ThenBy(i => i)
                            .Take(k)
                            .Order(),
                    ];
                    var indices = new int[k];
                    var values = new float[k];
                    int found = TopKSelect.Positive(row, bias, indices, values, width);
                    return indices.AsSpan(0, found).SequenceEqual(expected)
                        && values.AsSpan(0, found).SequenceEqual([.. expected.Select(i => sums[i])]);
                }
            )
        );
}
