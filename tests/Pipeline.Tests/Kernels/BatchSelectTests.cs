using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public class BatchSelectTests
{
    private const int Width = 20;

    /// <summary>Small whole numbers, so that many are equal; the first rows may say nothing of the rest.</summary>
    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void The_chosen_are_what_sorting_gives_ties_to_the_earlier(SimdWidth simd) =>
        Check.QuickThrowOnFailure(
            Prop.ForAll(
                Gen.Choose(-6, 6).ListOf(5 * Width).ToArbitrary(),
                Gen.Choose(1, Width).ToArbitrary(),
                Gen.Elements(1f, 100f, 1e-9f, -1f).ToArbitrary(),
                (numbers, k, first) =>
                {
                    float[] bias = [.. Enumerable.Range(0, Width).Select(i => i % 2 / 2f)];
                    float[] scores = [.. numbers.Select((number, i) => number * (i < Width ? first : 1))];
                    float[] sums = [.. scores.Select((score, i) => score + bias[i % Width])];
                    int wanted = 5 * k;
                    int[] expected =
                    [
                        .. Enumerable
                            .Range(0, sums.Length)
                            .Where(i => sums[i] > 0)
                            .OrderByDescending(i => sums[i])
                            .ThenBy(i => i)
                            .Take(wanted)
                            .Order(),
                    ];
                    var select = new BatchSelect(5);
                    int[] firstB = new int[5];
                    int[] endB = new int[5];
                    int[] indices = new int[wanted];
                    float[] values = new float[wanted];

                    select.Guess(scores.AsSpan(0, Width), bias, k);
                    do
                    {
                        for (int row = 0; row < 5; row++)
                        {
                            select.Collect(row, scores.AsSpan(row * Width, Width), bias, simd);
                        }
                    } while (select.NeedsAnotherPass(wanted));
                    select.Choose(wanted, firstB, endB, indices, values);

                    int[] chosen =
                    [
                        .. Enumerable
                            .Range(0, 5)
                            .SelectMany(row => indices[firstB[row]..endB[row]].Select(index => (row * Width) + index)),
                    ];
                    Assert.Equal(expected, chosen);
                    Assert.Equal(expected.Select(i => sums[i]), values[..chosen.Length]);
                }
            )
        );
}
