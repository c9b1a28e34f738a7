using Pipeline.Shared.Kernels;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// Sums of rows, in which threads have columns of their own: each column is summed in the order of the rows, whatever the
/// number of threads.
/// </summary>
internal static unsafe class ColumnSums
{
    /// <summary>Columns at a time at least: fewer would read rows in shreds.</summary>
    private const int LeastColumns = 128;

    /// <summary>Adds terms, each a row of a matrix times a weight; those of weight 0 are passed over.</summary>
    /// <param name="terms">How many.</param>
    /// <param name="term">Row and weight of a term.</param>
    /// <param name="rowsND">[N, D].</param>
    /// <param name="width">D.</param>
    /// <param name="totalsD">[D], added to.</param>
    /// <param name="threads">At most so many.</param>
    public static void Add(
        int terms,
        Func<int, (int Row, float Weight)> term,
        float* rowsND,
        int width,
        float* totalsD,
        int threads
    )
    {
        int columns = Math.Max(LeastColumns, (width + threads - 1) / threads);
        Pieces.Run(
            (width + columns - 1) / columns,
            threads,
            piece =>
            {
                int start = piece * columns;
                int length = Math.Min(columns, width - start);
                var totals = new Span<float>(totalsD + start, length);
                for (int i = 0; i < terms; i++)
                {
                    var (row, weight) = term(i);
                    if (weight != 0)
                    {
                        var values = new ReadOnlySpan<float>(rowsND + ((long)row * width) + start, length);
                        TensorPrimitives.MultiplyAdd(values, weight, totals, totals);
                    }
                }
            }
        );
    }
}
