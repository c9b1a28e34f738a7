using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;

namespace Pipeline.Shared;

/// <summary>Enumerates a sequence on a thread of its own, a bounded number of items ahead of who takes them.</summary>
public static class ReadAhead
{
    /// <summary>The same items in the same order; what the sequence throws is thrown where its item would have been.</summary>
    /// <param name="source">Enumerated on the other thread, and disposed there.</param>
    /// <param name="items">At most so many wait to be taken.</param>
    public static IEnumerable<T> Of<T>(IEnumerable<T> source, int items)
    {
        using var ahead = new BlockingCollection<T>(items);
        using var stop = new CancellationTokenSource();
        ExceptionDispatchInfo? failure = null;
        var thread = new Thread(() =>
        {
            try
            {
                foreach (var item in source)
                {
                    ahead.Add(item, stop.Token);
                }
            }
            catch (OperationCanceledException) when (stop.IsCancellationRequested) { }
            catch (Exception e)
            {
                failure = ExceptionDispatchInfo.Capture(e);
            }
            finally
            {
                ahead.CompleteAdding();
            }
        })
        {
            IsBackground = true,
            Name = "read ahead",
        };
        thread.Start();
        try
        {
            foreach (var item in ahead.GetConsumingEnumerable())
            {
                yield return item;
            }
            failure?.Throw();
        }
        finally
        {
            stop.Cancel();
            thread.Join();
        }
    }
}
