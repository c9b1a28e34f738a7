using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class TopKSelectTests
{
    [Fact]
    public void Selection_is_what_sorting_gives_ties_to_the_earlier_index() =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-5, 9).ListOf().ToArbitrary(),
                Gen.Choose(1, 40).ToArbitrary(),
                (small, k) =>
                {
                    float[] row = [.. small.Select(v => v / 2f), .. Enumerable.Range(0, 37).Select(i => i % 7 - 3f)];
                    int[] expected =
                    [
                        .. Enumerable
                            .Range(0, row.Length)
                            .Where(i => row[i] > 0)
                            .OrderByDescending(i => row[i])
                            .ThenBy(i => i)
                            .Take(k)
                            .Order(),
                    ];
                    var indices = new int[k];
                    var values = new float[k];
                    int found = TopKSelect.Positive(row, indices, values);
                    return indices.AsSpan(0, found).SequenceEqual(expected)
                        && values.AsSpan(0, found).SequenceEqual([.. expected.Select(i => row[i])]);
                }
            )
        );
}
