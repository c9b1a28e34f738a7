namespace Pipeline.Harvest;

/// <summary>
/// Work done on another thread, in the order it was given: while one piece runs, whoever gave it goes on, and waits only to
/// give the next.
/// </summary>
internal sealed class WriteBehind : IDisposable
{
    private Task last = Task.CompletedTask;

    /// <summary>Waits for what was given before, then starts the next.</summary>
    /// <exception cref="Exception">What was given before failed with it; the next is not begun.</exception>
    public Task<T> Start<T>(Func<T> next)
    {
        Finish();
        var task = Task.Run(next, CancellationToken.None);
        last = task;
        return task;
    }

    /// <summary>Waits for everything given.</summary>
    /// <exception cref="Exception">It failed.</exception>
    public void Finish() => last.GetAwaiter().GetResult();

    /// <summary>Waits until nothing runs any more, whatever came of it.</summary>
    public void Settle() => last.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);

    public void Dispose() => Settle();
}
