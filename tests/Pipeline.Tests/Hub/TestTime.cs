namespace Pipeline.Tests.Hub;

/// <summary>
/// A clock that jumps: who waits is woken at once, and the time has passed. Watches (periodic timers) look only when a test
/// lets time pass, so that no slow machine trips them.
/// </summary>
internal sealed class TestTime : TimeProvider
{
    private readonly Lock gate = new();
    private readonly List<TimeSpan> waits = [];
    private readonly List<Watch> watches = [];
    private TimeSpan passed;

    public IReadOnlyList<TimeSpan> Waits
    {
        get
        {
            lock (gate)
            {
                return [.. waits];
            }
        }
    }

    public override long TimestampFrequency => TimeSpan.TicksPerSecond;

    public override DateTimeOffset GetUtcNow()
    {
        lock (gate)
        {
            return new DateTimeOffset(2031, 5, 6, 7, 8, 9, TimeSpan.Zero) + passed;
        }
    }

    public override long GetTimestamp()
    {
        lock (gate)
        {
            return passed.Ticks;
        }
    }

    public override ITimer CreateTimer(TimerCallback callback, object? state, TimeSpan dueTime, TimeSpan period)
    {
        var watch = new Watch(this, callback, state);
        lock (gate)
        {
            if (period != Timeout.InfiniteTimeSpan)
            {
                watches.Add(watch);
                return watch;
            }
            waits.Add(dueTime);
            passed += dueTime;
        }
        ThreadPool.QueueUserWorkItem(_ => callback(state));
        return watch;
    }

    /// <summary>Time passes for whoever is waiting, and no watch looks.</summary>
    public void Pass(TimeSpan step)
    {
        lock (gate)
        {
            passed += step;
        }
    }

    /// <summary>
    /// Time passes in steps until <paramref name="end"/>, and the watches of now look after each: one step alone could fall
    /// together with the arrival of a byte. Watches that come later, of the next try, are left in peace.
    /// </summary>
    public async Task PassAsync(TimeSpan step, CancellationToken end)
    {
        Watch[] looking;
        lock (gate)
        {
            looking = [.. watches];
        }
        while (!end.IsCancellationRequested)
        {
            Pass(step);
            foreach (var watch in looking)
            {
                watch.Look();
            }
            await Task.Delay(TimeSpan.FromMilliseconds(5), end);
        }
    }

    private sealed class Watch(TestTime time, TimerCallback callback, object? state) : ITimer
    {
        public void Look() => callback(state);

        public bool Change(TimeSpan dueTime, TimeSpan period) => throw new NotSupportedException();

        public void Dispose()
        {
            lock (time.gate)
            {
                time.watches.Remove(this);
            }
        }

        public ValueTask DisposeAsync()
        {
            Dispose();
            return default;
        }
    }
}
