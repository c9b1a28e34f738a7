using Pipeline.Shared;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

/// <summary>Against sums in double.</summary>
public unsafe class GatheredRowsTests
{
    private const int MatrixRows = 9;

    /// <summary>D: whole groups of vectors, single ones, and what is left.</summary>
    private static readonly int[] Widths = [1, 15, 16, 128, 256, 307];
    private static readonly int[] Counts = [0, 1, 3, 4, 11];

    public static TheoryData<int, int, SimdWidth> Cases =>
        [
            .. from width in Enum.GetValues<SimdWidth>()
            from columns in Widths
            from count in Counts
            select (columns, count, width),
        ];

    [Theory]
    [MemberData(nameof(Cases))]
    public void Rows_times_weights_are_added(int columns, int count, SimdWidth width)
    {
        var (matrix, rows, weights, start) = Make(columns, count);
        float[] sum = [.. start];

        fixed (float* values = matrix)
        {
            GatheredRows.Add(values, rows, weights, sum, width);
        }

        for (int d = 0; d < columns; d++)
        {
            double expected = start[d];
            for (int n = 0; n < count; n++)
            {
                expected += (double)weights[n] * matrix[(rows[n] * columns) + d];
            }
            sum[d].Should().BeApproximately((float)expected, 1e-5f);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void Each_row_is_multiplied_with_x(int columns, int count, SimdWidth width)
    {
        var (matrix, rows, _, x) = Make(columns, count);
        var products = new float[count];

        fixed (float* values = matrix)
        {
            GatheredRows.Dot(values, rows, x, products, width);
        }

        for (int n = 0; n < count; n++)
        {
            double expected = Enumerable.Range(0, columns).Sum(d => (double)x[d] * matrix[(rows[n] * columns) + d]);
            products[n].Should().BeApproximately((float)expected, 1e-4f);
        }
    }

    [Theory]
    [MemberData(nameof(Cases))]
    public void A_product_is_the_same_alone_and_beside_others(int columns, int count, SimdWidth width)
    {
        var (matrix, rows, _, x) = Make(columns, count);
        var (together, alone) = (new float[count], new float[count]);

        fixed (float* values = matrix)
        {
            GatheredRows.Dot(values, rows, x, together, width);
            for (int n = 0; n < count; n++)
            {
                GatheredRows.Dot(values, rows.AsSpan(n, 1), x, alone.AsSpan(n, 1), width);
            }
        }

        together.Should().Equal(alone);
    }

    private static (float[] Matrix, int[] Rows, float[] Weights, float[] Vector) Make(int columns, int count)
    {
        var random = new Xoshiro256(5);
        float[] Normal(int length) => [.. Enumerable.Range(0, length).Select(_ => (float)random.NextGaussian())];
        int[] rows = [.. Enumerable.Range(0, count).Select(n => n * 5 % MatrixRows)];
        return (Normal(MatrixRows * columns), rows, Normal(count), Normal(columns));
    }
}
