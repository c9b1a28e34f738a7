using System.Runtime.CompilerServices;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// A matrix with its axes exchanged, tile by tile: rows of it lie so far apart that whole columns would fall out of the
/// cache before their neighbours are read. The plain twin is <c>t().contiguous()</c>, which libtorch does on one thread.
/// </summary>
public static unsafe class TransposeKernel
{
    private const int Tile = 16; // floats of a cache line
    private const int StripColumns = 4 * Tile; // a thread's piece of work

    /// <param name="xRC">[R, C].</param>
    /// <param name="rows">R.</param>
    /// <param name="columns">C.</param>
    /// <param name="xCR">Receives [C, R]; other memory than <paramref name="xRC"/>.</param>
    /// <param name="threads">At most so many.</param>
    public static void Transpose(float* xRC, long rows, long columns, float* xCR, int threads) =>
        Pieces.Run(
            checked((int)((columns + StripColumns - 1) / StripColumns)),
            threads,
            strip =>
            {
                long start = (long)strip * StripColumns;
                long end = Math.Min(columns, start + StripColumns);
                for (long row = 0; row < rows; row += Tile)
                {
                    for (long column = start; column < end; column += Tile)
                    {
                        TransposeTile(
                            xRC + (row * columns) + column,
                            columns,
                            xCR + (column * rows) + row,
                            rows,
                            (int)Math.Min(Tile, rows - row),
                            (int)Math.Min(Tile, end - column)
                        );
                    }
                }
            }
        );

    /// <summary>Through a tile of its own, so that every line of either matrix is taken once and whole.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void TransposeTile(float* from, long fromStride, float* to, long toStride, int rows, int columns)
    {
        float* tile = stackalloc float[Tile * Tile];
        for (int row = 0; row < rows; row++)
        {
            new ReadOnlySpan<float>(from + (row * fromStride), columns).CopyTo(
                new Span<float>(tile + (row * Tile), Tile)
            );
        }
        for (int column = 0; column < columns; column++)
        {
            float* line = to + (column * toStride);
            for (int row = 0; row < rows; row++)
            {
                line[row] = tile[(row * Tile) + column];
            }
        }
    }
}
