using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class ThresholdSelectTests
{
    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void Values_above_a_floor_are_found_in_order(SimdWidth width) =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-5, 9).ListOf().ToArbitrary(),
                Gen.Choose(-3, 9).ToArbitrary(),
                (small, least) =>
                {
                    float[] row = [.. small.Select(v => v / 2f), .. Enumerable.Range(0, 37).Select(i => i % 7 - 3f)];
                    float[] bias = [.. Enumerable.Range(0, row.Length).Select(i => i % 3 / 2f)];
                    float floor = least / 2f;
                    int[] expected = [.. Enumerable.Range(0, row.Length).Where(i => row[i] + bias[i] > floor)];
                    int[] indices = [];
                    float[] values = [];
                    int found = ThresholdSelect.Above(row, bias, floor, ref indices, ref values, width);
                    return indices.AsSpan(0, found).SequenceEqual(expected)
                        && values.AsSpan(0, found).SequenceEqual([.. expected.Select(i => row[i] + bias[i])]);
                }
            )
        );

    [Fact]
    public void The_nth_largest_is_what_sorting_gives() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-4, 4).ListOf().Where(list => list.Count > 0).ToArbitrary(),
                Gen.Choose(0, 1000).ToArbitrary(),
                (list, position) =>
                {
                    int n = 1 + (position % list.Count);
                    float[] values = [.. list.Select(v => (float)v)];
                    float expected = values.OrderDescending().ElementAt(n - 1);
                    return ThresholdSelect.NthLargest(values, n) == expected;
                }
            )
        );
}
