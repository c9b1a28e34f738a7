namespace Pipeline.Shared.Activations;

/// <summary>
/// The activations of one hook in an endless seeded order: each epoch permutes blocks of consecutive rows over all shards,
/// reads them into a window, and shuffles the rows of the window. Memory holds two windows (one is being read ahead).
/// The number of rows drawn is the whole state.
/// </summary>
public sealed class ActivationDataset : IDisposable
{
    private readonly List<ActivationShard> shards;
    private readonly List<Block> blocks = [];
    private readonly ulong seed;
    private readonly int windowRows;
    private Window current;
    private Task<Window> next;

    /// <param name="paths">Shards in harvest order.</param>
    /// <param name="seed">Of the order.</param>
    /// <param name="blockRows">Rows that stay together until they reach the window.</param>
    /// <param name="windowRows">Rows shuffled among each other.</param>
    /// <param name="rowsDrawn">Where to go on.</param>
    public ActivationDataset(IReadOnlyList<string> paths, ulong seed, int blockRows, int windowRows, long rowsDrawn = 0)
    {
        (this.seed, this.windowRows) = (seed, windowRows);
        shards = [.. paths.Select(ActivationShard.Open)];
        for (int shard = 0; shard < shards.Count; shard++)
        {
            for (int row = 0; row < shards[shard].Rows; row += blockRows)
            {
                blocks.Add(new Block(shard, row, Math.Min(blockRows, shards[shard].Rows - row)));
            }
        }
        Rows = shards.Sum(shard => (long)shard.Rows);
        Width = shards[0].Width;
        RowsDrawn = rowsDrawn;
        current = FirstWindow(rowsDrawn);
        next = ReadAhead(current);
    }

    /// <summary>Rows in the harvest.</summary>
    public long Rows { get; }

    /// <summary>d, the width of an activation.</summary>
    public int Width { get; }

    /// <summary>Rows handed out since the beginning: the cursor.</summary>
    public long RowsDrawn { get; private set; }

    /// <summary>Fills [rows, d] with the next rows of the order.</summary>
    public void NextBatch(Span<float> destination)
    {
        while (destination.Length > 0)
        {
            if (RowsDrawn == current.FirstDrawn + current.Order.Length)
            {
                current = next.GetAwaiter().GetResult();
                next = ReadAhead(current);
            }
            int row = current.Order[(int)(RowsDrawn - current.FirstDrawn)];
            current.Values.AsSpan(row * Width, Width).CopyTo(destination);
            destination = destination[Width..];
            RowsDrawn++;
        }
    }

    public void Dispose()
    {
        next.GetAwaiter().GetResult();
        shards.ForEach(shard => shard.Dispose());
    }

    private Task<Window> ReadAhead(Window window) =>
        Task.Run(() =>
            window.NextBlock < blocks.Count
                ? Read(window.Epoch, window.Permutation, window.NextBlock, window.FirstDrawn + window.Order.Length)
                : Read(window.Epoch + 1, Permute(window.Epoch + 1), 0, window.FirstDrawn + window.Order.Length)
        );

    private Window FirstWindow(long rowsDrawn)
    {
        long epoch = rowsDrawn / Rows;
        int[] permutation = Permute(epoch);
        long firstDrawn = epoch * Rows;
        int block = 0;
        while (true)
        {
            var (nextBlock, rows) = Extent(permutation, block);
            if (firstDrawn + rows > rowsDrawn)
            {
                return Read(epoch, permutation, block, firstDrawn);
            }
            (block, firstDrawn) = (nextBlock, firstDrawn + rows);
        }
    }

    private int[] Permute(long epoch)
    {
        int[] permutation = [.. Enumerable.Range(0, blocks.Count)];
        new Xoshiro256(RandomStreams.Derive(seed, "epoch", $"{epoch}")).Shuffle(permutation);
        return permutation;
    }

    /// <summary>The window that begins at a block: as many whole blocks as fit, and at least one.</summary>
    private (int NextBlock, int Rows) Extent(int[] permutation, int firstBlock)
    {
        int block = firstBlock;
        int rows = 0;
        do
        {
            rows += blocks[permutation[block++]].Rows;
        } while (block < blocks.Count && rows + blocks[permutation[block]].Rows <= windowRows);
        return (block, rows);
    }

    private Window Read(long epoch, int[] permutation, int firstBlock, long firstDrawn)
    {
        var (nextBlock, rows) = Extent(permutation, firstBlock);
        var values = new float[rows * Width];
        int at = 0;
        for (int i = firstBlock; i < nextBlock; i++)
        {
            var block = blocks[permutation[i]];
            shards[block.Shard].CopyRows(block.FirstRow, block.Rows, values.AsSpan(at));
            at += block.Rows * Width;
        }
        int[] order = [.. Enumerable.Range(0, rows)];
        new Xoshiro256(RandomStreams.Derive(seed, "window", $"{firstDrawn}")).Shuffle(order);
        return new Window(epoch, permutation, nextBlock, firstDrawn, values, order);
    }

    private readonly record struct Block(int Shard, int FirstRow, int Rows);

    private sealed record Window(
        long Epoch,
        int[] Permutation,
        int NextBlock,
        long FirstDrawn,
        float[] Values,
        int[] Order
    );
}
