using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class KeepLargestTests
{
    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void What_is_kept_is_what_sorting_gives_ties_to_the_earlier_index(SimdWidth width) =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-5, 9).ListOf().ToArbitrary(),
                Gen.Choose(1, 60).ToArbitrary(),
                (small, k) =>
                {
                    float[] values = [.. small.Select(v => v / 3f), .. Enumerable.Range(0, 37).Select(i => i % 7 - 3f)];
                    Assert.Equal(BySorting(values, k), Kept(values, k, width));
                }
            )
        );

    /// <summary>Values apart by one bit, the smallest there are, and the largest.</summary>
    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void Neighbouring_and_extreme_values_are_told_apart(SimdWidth width)
    {
        float[] values =
        [
            float.Epsilon,
            -0f,
            1f,
            MathF.BitIncrement(1f),
            float.PositiveInfinity,
            float.MaxValue,
            float.NegativeInfinity,
            1f,
            2 * float.Epsilon,
        ];

        for (int k = 1; k <= values.Length; k++)
        {
            Kept(values, k, width).Should().Equal(BySorting(values, k));
        }
    }

    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void The_least_of_the_largest_is_reached_by_as_many(SimdWidth width)
    {
        float[] values = [.. Enumerable.Range(0, 37).Select(i => (i * 11 % 37) - 9f)]; // -9 to 27

        for (int k = 1; k <= 27; k++)
        {
            values.Count(value => value >= KeepLargest.LeastOf(values, k, width)).Should().Be(k);
        }
        KeepLargest.LeastOf(values, 28, width).Should().Be(0);
    }

    private static float[] Kept(float[] values, int k, SimdWidth width)
    {
        float[] kept = [.. values];
        KeepLargest.Positive(kept, k, width);
        return kept;
    }

    private static float[] BySorting(float[] values, int k)
    {
        var kept = Enumerable
            .Range(0, values.Length)
            .Where(i => values[i] > 0)
            .OrderByDescending(i => values[i])
            .ThenBy(i => i)
            .Take(k)
            .ToHashSet();
        return [.. values.Select((value, i) => kept.Contains(i) ? value : 0)];
    }
}
