using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Draws a cursor's batches one ahead on a thread of its own, so that reading hides behind the caller's work. Same
/// batches, same order as the cursor alone. The cursor belongs to this object until it is disposed.
/// </summary>
public sealed class PrefetchingBatches : IDisposable
{
    private readonly ActivationCursor cursor;
    private readonly BlockingCollection<float[]> free = [];
    private readonly BlockingCollection<Drawn> drawn = [];
    private readonly CancellationTokenSource stop = new();
    private readonly Thread thread;
    private float[]? lent;

    /// <param name="cursor">Stands where drawing begins: seek it first.</param>
    /// <param name="batchRows">B, rows a batch.</param>
    public PrefetchingBatches(ActivationCursor cursor, int batchRows)
    {
        ArgumentNullException.ThrowIfNull(cursor);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batchRows);
        this.cursor = cursor;
        RowsDrawn = cursor.RowsDrawn;
        int values = checked(batchRows * cursor.Width);
        free.Add(new float[values]);
        free.Add(new float[values]);
        thread = new Thread(Draw) { IsBackground = true, Name = "activation prefetch" };
        thread.Start();
    }

    /// <summary>
    /// Rows handed out so far, over all epochs: what a checkpoint keeps. The cursor itself is further by what is drawn
    /// ahead.
    /// </summary>
    public long RowsDrawn { get; private set; }

    /// <summary>The next batch, row-major [B, D]; the array is overwritten after the following call.</summary>
    /// <exception cref="Exception">Whatever reading threw on the other thread.</exception>
    public float[] Next()
    {
        if (lent is not null)
        {
            free.Add(lent);
            lent = null;
        }
        var next = drawn.Take(stop.Token);
        if (next.Failure is not null)
        {
            drawn.Add(next); // every further call fails the same way
            next.Failure.Throw();
        }
        lent = next.BatchBD;
        RowsDrawn = next.RowsDrawn;
        return next.BatchBD;
    }

    public void Dispose()
    {
        stop.Cancel();
        thread.Join();
        free.Dispose();
        drawn.Dispose();
        stop.Dispose();
    }

    private void Draw()
    {
        try
        {
            while (true)
            {
                float[] batchBD = free.Take(stop.Token);
                cursor.NextBatch(batchBD);
                drawn.Add(new Drawn(batchBD, cursor.RowsDrawn, null));
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { }
        catch (Exception e)
        {
            drawn.Add(new Drawn([], cursor.RowsDrawn, ExceptionDispatchInfo.Capture(e)));
        }
    }

    private sealed record Drawn(float[] BatchBD, long RowsDrawn, ExceptionDispatchInfo? Failure);
}
