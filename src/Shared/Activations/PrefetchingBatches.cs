using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.ExceptionServices;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Draws cursors' batches one ahead on a thread of its own, so that reading hides behind the caller's work, straight into
/// the memory of the tensors handed out. Same batches, same order as the cursors alone. The cursors belong to this object
/// until it is disposed.
/// </summary>
public sealed class PrefetchingBatches : IDisposable
{
    private readonly IReadOnlyList<ActivationCursor> cursors;
    private readonly BlockingCollection<Tensor[]> free = [];
    private readonly BlockingCollection<Drawn> drawn = [];
    private readonly List<Tensor> buffers = [];
    private readonly CancellationTokenSource stop = new();
    private readonly Stopwatch waited = new();
    private readonly Thread thread;
    private Tensor[]? lent;

    /// <param name="cursors">Drawn from in step, one or more; each stands where drawing begins: seek it first.</param>
    /// <param name="batchRows">B, rows a batch.</param>
    public PrefetchingBatches(IReadOnlyList<ActivationCursor> cursors, int batchRows)
    {
        ArgumentNullException.ThrowIfNull(cursors);
        ArgumentOutOfRangeException.ThrowIfZero(cursors.Count);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(batchRows);
        this.cursors = cursors;
        RowsDrawn = cursors[0].RowsDrawn;
        for (int i = 0; i < 2; i++)
        {
            Tensor[] batch = [.. cursors.Select(c => empty(batchRows, c.Width, float32, CPU).DetachFromDisposeScope())];
            buffers.AddRange(batch);
            free.Add(batch);
        }
        thread = new Thread(Draw) { IsBackground = true, Name = "activation prefetch" };
        thread.Start();
    }

    /// <summary>
    /// Rows handed out so far, over all epochs: what a checkpoint keeps. The cursors themselves are further by what is drawn
    /// ahead.
    /// </summary>
    public long RowsDrawn { get; private set; }

    /// <summary>How long callers of <see cref="Next"/> have waited for it.</summary>
    public TimeSpan Waited => waited.Elapsed;

    /// <summary>The next batch, [B, D] float32 on the CPU of each cursor; overwritten after the following call.</summary>
    /// <exception cref="Exception">Whatever reading threw on the other thread.</exception>
    public IReadOnlyList<Tensor> Next()
    {
        if (lent is not null)
        {
            free.Add(lent);
            lent = null;
        }
        waited.Start();
        var next = drawn.Take(stop.Token);
        waited.Stop();
        if (next.Failure is not null)
        {
            drawn.Add(next); // every further call fails the same way
            next.Failure.Throw();
        }
        lent = next.Batch;
        RowsDrawn = next.RowsDrawn;
        return next.Batch;
    }

    public void Dispose()
    {
        stop.Cancel();
        thread.Join();
        free.Dispose();
        drawn.Dispose();
        stop.Dispose();
        buffers.ForEach(buffer => buffer.Dispose());
    }

    private void Draw()
    {
        try
        {
            while (true)
            {
                var batch = free.Take(stop.Token);
                for (int i = 0; i < batch.Length; i++)
                {
                    cursors[i].NextBatch(batch[i]);
                }
                drawn.Add(new Drawn(batch, cursors[0].RowsDrawn, null));
            }
        }
        catch (OperationCanceledException) when (stop.IsCancellationRequested) { }
        catch (Exception e)
        {
            drawn.Add(new Drawn([], cursors[0].RowsDrawn, ExceptionDispatchInfo.Capture(e)));
        }
    }

    private sealed record Drawn(Tensor[] Batch, long RowsDrawn, ExceptionDispatchInfo? Failure);
}
