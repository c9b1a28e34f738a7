namespace Pipeline.Shared.Activations;

/// <summary>
/// Draws batches from a dataset in a seeded order (<see cref="RowOrder"/>), without end. <see cref="RowsDrawn"/> is its
/// whole state. Memory: one window, by default 16,384 rows of D floats. Not for concurrent use.
/// </summary>
public sealed class ActivationCursor
{
    public const int DefaultBlockRows = 64;
    public const int DefaultWindowRows = 16_384;

    private readonly IActivationRows dataset;
    private readonly RowOrder order;
    private readonly float[] windowRD;
    private readonly long[] rowsR;
    private (long Epoch, int Window) loaded = (-1, -1);
    private int[] places = [];

    /// <param name="dataset">Where rows come from; stays the caller's.</param>
    /// <param name="seed">The pipeline's seed.</param>
    /// <param name="blockRows">See <see cref="RowOrder"/>.</param>
    /// <param name="windowRows">See <see cref="RowOrder"/>.</param>
    public ActivationCursor(
        IActivationRows dataset,
        ulong seed,
        int blockRows = DefaultBlockRows,
        int windowRows = DefaultWindowRows
    )
    {
        ArgumentNullException.ThrowIfNull(dataset);
        this.dataset = dataset;
        order = new RowOrder(dataset.Rows, seed, dataset.Hook, blockRows, windowRows);
        windowRD = new float[checked(order.LargestWindow * dataset.Width)];
        rowsR = new long[order.LargestWindow];
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
            int n = Math.Min(batch - done, places.Length - place);
            for (int i = 0; i < n; i++)
            {
                int from = places[place + i];
                windowRD.AsSpan(from * d, d).CopyTo(destinationBD[((done + i) * d)..]);
                if (!rowIndicesB.IsEmpty)
                {
                    rowIndicesB[done + i] = rowsR[from];
                }
            }
            done += n;
            RowsDrawn += n;
        }
    }

    /// <summary>Brings the current row's window into memory; the row's place in it.</summary>
    private int Load()
    {
        var (epoch, window, place) = order.Locate(RowsDrawn);
        if (loaded != (epoch, window))
        {
            var rows = order.Window(epoch, window);
            int read = 0;
            foreach (var (first, count) in rows.Ranges)
            {
                dataset.CopyRows(first, count, windowRD.AsSpan(read * Width));
                for (int i = 0; i < count; i++)
                {
                    rowsR[read + i] = first + i;
                }
                read += count;
            }
            places = [.. rows.Places];
            loaded = (epoch, window);
        }
        return place;
    }
}
