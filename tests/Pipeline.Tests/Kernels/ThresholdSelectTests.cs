using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class ThresholdSelectTests
{
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
