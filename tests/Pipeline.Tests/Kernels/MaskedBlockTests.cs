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
        float[] block = Normal(Panels.BlockRows * width);
        float[] targetsTW = Normal(targets * width);
        float[] entriesTR = Normal(targets * Panels.BlockRows);
        ulong[] masks = [.. Enumerable.Range(0, targets).Select(t => t % 4 == 3 ? 0 : random.NextULong() >> 16)];
        float[] sums = [.. targetsTW];
        float[] dots = [.. entriesTR];
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
                    sums[(t * width) + i] += entriesTR[Entry(t, row)] * block[(row * width) + i];
                    dot += targetsTW[(t * width) + i] * (double)block[(row * width) + i];
                }
                dots[Entry(t, row)] += (float)dot;
            }
        }

        float[] actualSums = [.. targetsTW];
        float[] actualDots = [.. entriesTR];
        Over(entriesTR, actualSums, product => product.Accumulate(simd));
        Over(actualDots, targetsTW, product => product.AddDots(simd));

        actualSums.Zip(sums, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-5f);
        actualDots.Zip(dots, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-4f);

        int Entry(int t, int row) => (t * Panels.BlockRows) + row;

        float[] Normal(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.NextGaussian())];

        void Over(float[] entries, float[] rows, Action<MaskedBlock> action)
        {
            fixed (ulong* m = masks)
            fixed (
                float* e = entries,
                    b = block,
                    r = rows
            )
            {
                action(
                    new MaskedBlock
                    {
                        Masks = m,
                        MaskStep = 1,
                        Entries = e,
                        TargetStep = Panels.BlockRows,
                        Block = b,
                        Targets = r,
                        Width = width,
                        TargetCount = targets,
                    }
                );
            }
        }
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
