using Pipeline.Shared;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public unsafe class MaskedBlockTests
{
    public static TheoryData<SimdWidth, int, int> Shapes =>
        [
            .. from simd in Enum.GetValues<SimdWidth>()
            from shape in new[] { (16, 1), (48, 48), (128, 5), (112, 47) }
            select (simd, shape.Item1, shape.Item2),
        ];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Products_are_those_of_whole_matrices_with_zeros(SimdWidth simd, int width, int targets)
    {
        var random = new Xoshiro256((ulong)((width * 100) + targets));
        float[] blockRW = Normal(Panels.BlockRows * width);
        float[] targetsTW = Normal(targets * width);
        float[] othersTW = Normal(targets * width);
        float[] entriesTR = Normal(targets * Panels.BlockRows);
        float[] dotsTR = Normal(targets * Panels.BlockRows);
        ulong[] masks = [.. Enumerable.Range(0, targets).Select(t => t % 4 == 3 ? 0 : random.NextULong() >> 16)];
        float[] sums = [.. targetsTW];
        float[] dots = [.. dotsTR];
        for (int t = 0; t < targets; t++)
        {
            for (int row = 0; row < Panels.BlockRows; row++)
            {
                if ((masks[t] >> row & 1) == 0)
                {
                    continue;
                }
                double dot = 0;
                for (int i = 0; i < width; i++)
                {
                    sums[(t * width) + i] += entriesTR[(t * Panels.BlockRows) + row] * blockRW[(row * width) + i];
                    dot += othersTW[(t * width) + i] * (double)blockRW[(row * width) + i];
                }
                dots[(t * Panels.BlockRows) + row] += (float)dot;
            }
        }

        float[] sumsAlone = [.. targetsTW];
        float[] sumsBeside = [.. targetsTW];
        fixed (
            float* alone = sumsAlone,
                beside = sumsBeside,
                others = othersTW,
                actualDots = dotsTR,
                entries = entriesTR,
                block = blockRW
        )
        {
            fixed (ulong* m = masks)
            {
                Product(m, entries, block, alone).Accumulate(simd);
                Product(m, entries, block, beside).AccumulateAndDot(actualDots, others, simd);
            }
        }

        sumsAlone.Zip(sums, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-5f);
        sumsBeside.Should().Equal(sumsAlone);
        dotsTR.Zip(dots, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-4f);

        float[] Normal(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.NextGaussian())];

        MaskedBlock Product(ulong* m, float* entries, float* block, float* rows) =>
            new()
            {
                Masks = m,
                MaskStep = 1,
                Entries = entries,
                TargetStep = Panels.BlockRows,
                Block = block,
                Targets = rows,
                Width = width,
                TargetCount = targets,
            };
    }

    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void A_mask_has_a_bit_for_each_positive_value(SimdWidth simd)
    {
        float[] values = [.. Enumerable.Range(0, 48).Select(i => (i * 7 % 5) - 2f)];
        for (int length = 0; length <= values.Length; length++)
        {
            ulong expected = 0;
            for (int i = 0; i < length; i++)
            {
                expected |= values[i] > 0 ? 1UL << i : 0;
            }
            MaskedBlock.Positive(values.AsSpan(0, length), simd).Should().Be(expected);
        }
    }

    [Theory]
    [InlineData(1)]
    [InlineData(16)]
    [InlineData(130)]
    [InlineData(256)]
    public void Panels_give_rows_back_and_have_zeros_beside_them(int width)
    {
        var panels = new Panels(width);
        float[] memory = new float[panels.Length(100)];
        Array.Fill(memory, float.NaN);
        fixed (float* p = memory)
        {
            for (int row = 0; row < 100; row++)
            {
                panels.Put([.. Enumerable.Range(0, width).Select(i => (row * 1000f) + i + 1)], p, row);
            }
            for (int row = 0; row < 100; row++)
            {
                float[] taken = new float[width];
                panels.Take(p, row, taken);
                taken.Should().Equal(Enumerable.Range(0, width).Select(i => (row * 1000f) + i + 1));
            }
        }

        memory.Count(value => value == 0).Should().Be(100 * (panels.Padded - width));
    }
}
