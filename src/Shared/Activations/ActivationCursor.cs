using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Draws batches from a dataset in a seeded order (<see cref="RowOrder"/>), without end, each row widened from its shard's
/// memory map straight into the batch. <see cref="RowsDrawn"/> is its whole state. Memory: 40 bytes a row of one window, by
/// default of 16,384 rows; the rows themselves stay in the page cache. Not for concurrent use.
/// </summary>
public sealed class ActivationCursor
{
    public const int DefaultBlockRows = 64;
    public const int DefaultWindowRows = 16_384;

    private readonly ActivationDataset dataset;
    private readonly RowOrder order;

    /// <summary>The window's rows in the dataset's order, then in the order they are drawn; and their indices in the latter.</summary>
    private readonly StoredRow[] inOrderR;
    private readonly StoredRow[] drawnR;
    private readonly long[] indicesR;
    private (long Epoch, int Window) loaded = (-1, -1);
    private int rowsLoaded;

    /// <param name="dataset">Where rows come from; stays the caller's.</param>
    /// <param name="seed">The pipeline's seed.</param>
    /// <param name="blockRows">See <see cref="RowOrder"/>.</param>
    /// <param name="windowRows">See <see cref="RowOrder"/>.</param>
    /// <param name="orderOf">The hook whose order it is; the dataset's own where null.</param>
    public ActivationCursor(
        ActivationDataset dataset,
        ulong seed,
        int blockRows = DefaultBlockRows,
        int windowRows = DefaultWindowRows,
        string? orderOf = null
    )
    {
        ArgumentNullException.ThrowIfNull(dataset);
        this.dataset = dataset;
        order = new RowOrder(dataset.Rows, seed, orderOf ?? dataset.Hook, blockRows, windowRows);
        inOrderR = new StoredRow[order.LargestWindow];
        drawnR = new StoredRow[order.LargestWindow];
        indicesR = new long[order.LargestWindow];
    }

    /// <summary>D, values a row.</summary>
    public int Width => dataset.Width;

    /// <summary>Rows drawn so far, over all epochs.</summary>
    public long RowsDrawn { get; private set; }

    /// <summary>Goes to where a cursor stands that has drawn <paramref name="rowsDrawn"/> rows.</summary>
    public void Seek(long rowsDrawn)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(rowsDrawn);
        RowsDrawn = rowsDrawn;
    }

    /// <summary>Draws the next B rows.</summary>
    /// <param name="destinationBD">Row-major [B, D], filled whole; may reach over windows and epochs.</param>
    public void NextBatch(Span<float> destinationBD) => NextBatch(destinationBD, []);

    /// <summary>Draws the next B rows into a tensor's own memory.</summary>
    /// <param name="batchBD">[B, D] float32 on the CPU, contiguous, no view.</param>
    public unsafe void NextBatch(Tensor batchBD)
    {
        ArgumentNullException.ThrowIfNull(batchBD);
        var values = (float*)batchBD.storage<float>().data_ptr();
        NextBatch(new Span<float>(values, checked((int)batchBD.numel())), []);
    }

    /// <summary>Draws the next B rows and says which they are.</summary>
    /// <param name="destinationBD">Row-major [B, D], filled whole; may reach over windows and epochs.</param>
    /// <param name="rowIndicesB">The rows' indices in the dataset, [B], or empty when nobody asks.</param>
    public void NextBatch(Span<float> destinationBD, Span<long> rowIndicesB)
    {
        int d = Width;
        var (batch, rest) = Math.DivRem(destinationBD.Length, d);
        if (rest != 0 || (!rowIndicesB.IsEmpty && rowIndicesB.Length != batch))
        {
            throw new ArgumentException($"The destination is whole rows of {d}, with an index each.");
        }
        for (int done = 0; done < batch; )
        {
            int place = Load();
            int n = Math.Min(batch - done, rowsLoaded - place);
            dataset.Widen(drawnR.AsSpan(place, n), destinationBD.Slice(done * d, n * d));
            if (!rowIndicesB.IsEmpty)
            {
                indicesR.AsSpan(place, n).CopyTo(rowIndicesB[done..]);
            }
            done += n;
            RowsDrawn += n;
        }
    }

    /// <summary>Finds the rows of the current row's window; the row's place in it.</summary>
    private int Load()
    {
        var (epoch, window, place) = order.Locate(RowsDrawn);
        if (loaded != (epoch, window))
        {
            var rows = order.Window(epoch, window);
            var numbers = new long[rows.Places.Count];
            int read = 0;
            foreach (var (first, count) in rows.Ranges)
            {
                dataset.Locate(first, inOrderR.AsSpan(read, count));
                for (int i = 0; i < count; i++)
                {
                    numbers[read++] = first + i;
                }
            }
            for (int i = 0; i < read; i++)
            {
                (drawnR[i], indicesR[i]) = (inOrderR[rows.Places[i]], numbers[rows.Places[i]]);
            }
            rowsLoaded = read;
            loaded = (epoch, window);
        }
        return place;
    }
}
