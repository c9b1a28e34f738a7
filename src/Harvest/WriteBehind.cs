namespace Pipeline.Harvest;

/// <summary>
/// Work done on other threads one piece after another, in the order it was given. Whoever gives it goes on, unless more
/// pieces wait than may: a disk that now and then takes its time holds nobody up.
/// </summary>
/// <param name="most">Pieces begun or waiting, at most.</param>
internal sealed class WriteBehind(int most) : IDisposable
{
    private readonly Queue<Task> pending = [];
    private Task last = Task.CompletedTask;

    /// <summary>Gives a piece, which starts when those before it are done.</summary>
    /// <exception cref="Exception">One of those given before failed with it; nothing after that is begun.</exception>
    public Task<T> Start<T>(Func<T> piece)
    {
        while (pending.Count >= most || (pending.TryPeek(out var oldest) && oldest.IsCompleted))
        {
            pending.Dequeue().GetAwaiter().GetResult();
        }
        var task = last.ContinueWith(
            before =>
            {
                before.GetAwaiter().GetResult();
                return piece();
            },
            CancellationToken.None,
            TaskContinuationOptions.None,
            TaskScheduler.Default
        );
        pending.Enqueue(task);
        last = task;
        return task;
    }

    /// <summary>Waits for everything given.</summary>
    /// <exception cref="Exception">It failed.</exception>
    public void Finish()
    {
        pending.Clear();
        last.GetAwaiter().GetResult();
    }

    /// <summary>Waits until nothing runs any more, whatever came of it.</summary>
    public void Settle() => last.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);

    public void Dispose() => Settle();
}
