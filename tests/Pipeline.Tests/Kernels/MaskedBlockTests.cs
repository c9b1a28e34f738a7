using System.Numerics;
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
        ulong[] masks = [.. Enumerable.Range(0, targets).Select(t => t % 4 == 3 ? 0 : random.NextULong() >> 16)];
        int count = masks.Sum(BitOperations.PopCount);
        float[] entries = Normal(count);
        float[] dots = Normal(count);
        float[] sums = [.. targetsTW];
        float[] dotsOfOthers = [.. dots];
        float[] dotsOfTargets = [.. dots];
        int entry = 0;
        for (int t = 0; t < targets; t++)
        {
            foreach (int row in Enumerable.Range(0, Panels.BlockRows).Where(row => (masks[t] >> row & 1) == 1))
            {
                for (int i = 0; i < width; i++)
                {
                    sums[(t * width) + i] += entries[entry] * blockRW[(row * width) + i];
                }
                dotsOfOthers[entry] += Dot(othersTW, t, row);
                dotsOfTargets[entry] += Dot(targetsTW, t, row);
                entry++;
            }
        }

        float[] sumsAlone = [.. targetsTW];
        float[] sumsBeside = [.. targetsTW];
        float[] dotsAlone = [.. dots];
        fixed (
            float* alone = sumsAlone,
                beside = sumsBeside,
                of = targetsTW,
                others = othersTW,
                actualDots = dots,
                actualDotsAlone = dotsAlone,
                e = entries,
                block = blockRW
        )
        {
            fixed (ulong* m = masks)
            {
                Product(m, e, block, alone).Accumulate(simd);
                Product(m, e, block, beside).AccumulateAndDot(actualDots, others, simd);
                Product(m, actualDotsAlone, block, of).Dot(simd);
            }
        }

        sumsAlone.Zip(sums, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-5f);
        sumsBeside.Should().Equal(sumsAlone);
        dots.Zip(dotsOfOthers, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-4f);
        dotsAlone.Zip(dotsOfTargets, (a, b) => Math.Abs(a - b)).Max().Should().BeLessThan(1e-4f);

        float[] Normal(int length) => [.. Enumerable.Range(0, length).Select(_ => (float)random.NextGaussian())];

        float Dot(float[] rowsTW, int t, int row) =>
            (float)Enumerable.Range(0, width).Sum(i => rowsTW[(t * width) + i] * (double)blockRW[(row * width) + i]);

        MaskedBlock Product(ulong* m, float* e, float* block, float* rows) =>
            new()
            {
                Masks = m,
                Entries = e,
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
    public void Values_that_a_mask_names_are_put_together_in_their_order(SimdWidth simd)
    {
        var random = new Xoshiro256(3);
        float[] values = [.. Enumerable.Range(0, Panels.BlockRows).Select(i => i + 1f)];
        ulong all = (1UL << Panels.BlockRows) - 1;
        foreach (ulong mask in new[] { 0UL, all, 1UL << 47, 0xFFFFUL << 16, random.NextULong() & all })
        {
            float[] packed = new float[Panels.BlockRows];
            fixed (
                float* from = values,
                    to = packed
            )
            {
                MaskedBlock.Pack(mask, from, to, simd);
            }
            packed
                .Take(BitOperations.PopCount(mask))
                .Should()
                .Equal(Enumerable.Range(0, Panels.BlockRows).Where(i => (mask >> i & 1) == 1).Select(i => i + 1f));
        }
    }

    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void A_mask_has_a_bit_for_each_value_that_reaches_the_least(SimdWidth simd)
    {
        float[] values = [.. Enumerable.Range(0, 48).Select(i => (i * 7 % 5) - 2f)];
        for (int length = 0; length <= values.Length; length++)
        {
            ulong expected = 0;
            for (int i = 0; i < length; i++)
            {
                expected |= values[i] >= 1 ? 1UL << i : 0;
            }
            MaskedBlock.Reaching(values.AsSpan(0, length), 1, simd).Should().Be(expected);
        }
    }

    [Theory]
    [InlineData(SimdWidth.Scalar)]
    [InlineData(SimdWidth.Vector256)]
    [InlineData(SimdWidth.Vector512)]
    public void Places_among_what_a_mask_names_are_named_where_the_mask_has_them(SimdWidth simd)
    {
        var random = new Xoshiro256(5);
        foreach (ulong mask in new[] { 0UL, ulong.MaxValue, 1UL << 47, random.NextULong(), random.NextULong() })
        {
            int[] named = [.. Enumerable.Range(0, 64).Where(i => (mask >> i & 1) == 1)];
            ulong places = random.NextULong();
            ulong expected = named
                .Where((_, place) => (places >> place & 1) == 1)
                .Aggregate(0UL, (all, i) => all | 1UL << i);

            MaskedBlock.Among(mask, places, simd).Should().Be(expected);
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
