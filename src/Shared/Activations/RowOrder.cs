using System.Globalization;

namespace Pipeline.Shared.Activations;

/// <summary>
/// The seeded order training draws rows in, endless: every epoch is a permutation of the N rows.
/// <code>
/// rows 0..N-1 ──> blocks of consecutive rows ──permute──> windows of consecutive permuted blocks ──permute rows──> drawn
/// </code>
/// Blocks keep reading sequential enough for a disk, the window bounds memory. The order depends on the constructor's
/// arguments alone: not on shards, batch size or workers.
/// </summary>
/// <remarks>Caches the current epoch's blocks (4 bytes a block); not for concurrent use.</remarks>
public sealed class RowOrder
{
    private readonly ulong seed;
    private readonly string hook;
    private readonly int blockRows;
    private readonly int windowBlocks;
    private readonly int[] blocks;
    private readonly int missingRows;
    private long epochOfBlocks = -1;
    private int windowOfShortBlock;

    /// <param name="rows">N, at least 1.</param>
    /// <param name="seed">The pipeline's seed.</param>
    /// <param name="hook">The hook's resolved name: each hook has its own order.</param>
    /// <param name="blockRows">Consecutive rows that stay within one window.</param>
    /// <param name="windowRows">Rows shuffled together in memory; rounded up to whole blocks.</param>
    public RowOrder(
        long rows,
        ulong seed,
        string hook,
        int blockRows = ActivationCursor.DefaultBlockRows,
        int windowRows = ActivationCursor.DefaultWindowRows
    )
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(rows);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(blockRows);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(windowRows);
        Rows = rows;
        this.seed = seed;
        this.hook = hook;
        this.blockRows = blockRows;
        blocks = new int[checked((int)((rows + blockRows - 1) / blockRows))];
        windowBlocks = (int)Math.Min(((long)windowRows + blockRows - 1) / blockRows, blocks.Length);
        missingRows = (int)(((long)blocks.Length * blockRows) - rows);
    }

    /// <summary>N, rows an epoch.</summary>
    public long Rows { get; }

    /// <summary>The most rows a window holds.</summary>
    public int LargestWindow => (int)Math.Min((long)windowBlocks * blockRows, Rows);

    /// <summary>Where the row drawn after <paramref name="rowsDrawn"/> others stands: its epoch, window, and place in it.</summary>
    public (long Epoch, int Window, int Place) Locate(long rowsDrawn)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rowsDrawn);
        var (epoch, within) = Math.DivRem(rowsDrawn, Rows);
        PermuteBlocks(epoch);
        // Windows are equally long but for the one with the short block (and the last): at most one step off.
        long window = within / ((long)windowBlocks * blockRows);
        if (FirstRow(window + 1) <= within)
        {
            window++;
        }
        return (epoch, (int)window, (int)(within - FirstRow(window)));
    }

    /// <summary>The rows of one window.</summary>
    public RowWindow Window(long epoch, int window)
    {
        PermuteBlocks(epoch);
        int first = window * windowBlocks;
        int[] own = blocks[first..Math.Min(first + windowBlocks, blocks.Length)];
        // Rows are shuffled anyway, so a window is read in file order.
        Array.Sort(own);
        var ranges = Array.ConvertAll(own, block => (FirstRow: (long)block * blockRows, Count: RowsOf(block)));
        int[] places = [.. Enumerable.Range(0, ranges.Sum(range => range.Count))];
        Stream(epoch, $"window {window.ToString(CultureInfo.InvariantCulture)}").Shuffle(places);
        return new RowWindow(ranges, places);
    }

    private int RowsOf(int block) => block == blocks.Length - 1 ? blockRows - missingRows : blockRows;

    /// <summary>Rows of the epoch drawn before <paramref name="window"/>.</summary>
    private long FirstRow(long window) =>
        (window * windowBlocks * blockRows) - (window > windowOfShortBlock ? missingRows : 0);

    private void PermuteBlocks(long epoch)
    {
        if (epoch == epochOfBlocks)
        {
            return;
        }
        for (int i = 0; i < blocks.Length; i++)
        {
            blocks[i] = i;
        }
        Stream(epoch, "blocks").Shuffle(blocks);
        windowOfShortBlock = Array.IndexOf(blocks, blocks.Length - 1) / windowBlocks;
        epochOfBlocks = epoch;
    }

    private Xoshiro256 Stream(long epoch, string what) =>
        new(seed, "train", string.Create(CultureInfo.InvariantCulture, $"{hook}: epoch {epoch}: {what}"));
}
