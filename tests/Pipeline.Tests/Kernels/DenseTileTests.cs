using Pipeline.Shared;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public unsafe class DenseTileTests
{
    private static readonly int[] Depths = [1, 7, 64, 257];

    public static TheoryData<SimdWidth, int> Shapes =>
        [.. from simd in Enum.GetValues<SimdWidth>() from depth in Depths select (simd, depth)];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void A_tile_holds_the_products_of_its_rows_and_the_bias_and_nothing_beside_it_is_written(
        SimdWidth simd,
        int depth
    )
    {
        const int Step = DenseTile.Columns + 5;
        var random = new Xoshiro256((ulong)depth);
        float[][] x = [.. Enumerable.Range(0, 2 * DenseTile.Rows).Select(_ => Normal(depth))];
        float[][] w = [.. Enumerable.Range(0, 2 * DenseTile.Columns).Select(_ => Normal(depth))];
        float[] bias = Normal(DenseTile.Columns);
        float[] packedX = new float[x.Length * depth];
        float[] packedW = new float[w.Length * depth];
        float[] targets = new float[DenseTile.Rows * Step];
        Array.Fill(targets, float.NaN);

        fixed (
            float* px = packedX,
                pw = packedW,
                pb = bias,
                pt = targets
        )
        {
            for (int i = 0; i < x.Length; i++)
            {
                DenseTile.Put(x[i], px, i, DenseTile.Rows);
            }
            for (int i = 0; i < w.Length; i++)
            {
                DenseTile.Put(w[i], pw, i, DenseTile.Columns);
            }
            // The second of each, which begin where the first end.
            DenseTile.Multiply(
                px + (DenseTile.Rows * depth),
                pw + (DenseTile.Columns * depth),
                pb,
                depth,
                pt,
                Step,
                simd
            );
        }

        for (int row = 0; row < DenseTile.Rows; row++)
        {
            for (int column = 0; column < Step; column++)
            {
                float actual = targets[(row * Step) + column];
                if (column >= DenseTile.Columns)
                {
                    actual.Should().Be(float.NaN);
                    continue;
                }
                double dot = bias[column];
                for (int d = 0; d < depth; d++)
                {
                    dot += x[DenseTile.Rows + row][d] * (double)w[DenseTile.Columns + column][d];
                }
                actual.Should().BeApproximately((float)dot, 1e-4f);
            }
        }

        float[] Normal(int count) => [.. Enumerable.Range(0, count).Select(_ => (float)random.NextGaussian())];
    }
}
