namespace Pipeline.Shared.Hub;

/// <summary>
/// Cancels network work that brings nothing for a while. One periodic timer looks how long the call under way has waited: a timeout
/// strategy bounds a whole try, which would cut off long downloads that are doing well.
/// </summary>
internal sealed class StallWatch : IDisposable
{
    private const int LooksPerLimit = 4;

    private readonly TimeProvider time;
    private readonly TimeSpan limit;
    private readonly CancellationToken outer;
    private readonly CancellationTokenSource source;
    private readonly ITimer timer;
    private long since;
    private volatile bool waits; // what the caller does between calls, such as flushing to a slow disk, is no stall

    public StallWatch(TimeProvider time, TimeSpan limit, CancellationToken outer)
    {
        this.time = time;
        this.limit = limit;
        this.outer = outer;
        source = CancellationTokenSource.CreateLinkedTokenSource(outer);
        var period = limit / LooksPerLimit;
        timer = time.CreateTimer(_ => Look(), null, period, period);
    }

    /// <summary>Runs one network call; what goes wrong in it is worth another try.</summary>
    /// <exception cref="HubTransientException">The network failed, or nothing came for the limit.</exception>
    /// <exception cref="OperationCanceledException">The caller's token was cancelled.</exception>
    public async Task<T> Guard<T>(Func<CancellationToken, Task<T>> call)
    {
        Volatile.Write(ref since, time.GetTimestamp());
        waits = true;
        try
        {
            return await call(source.Token).ConfigureAwait(false);
        }
        catch (Exception) when (outer.IsCancellationRequested)
        {
            throw new OperationCanceledException(outer);
        }
        catch (Exception e) when (source.IsCancellationRequested)
        {
            throw new HubTransientException($"nothing came for {limit.TotalSeconds:0} s", inner: e);
        }
        catch (OperationCanceledException e) when (e.InnerException is TimeoutException timeout)
        {
            // HttpClient's own: what is sent to connect is swallowed, as behind many a cluster's firewall.
            throw new HubTransientException($"the connection failed ({timeout.Message})", inner: timeout);
        }
        catch (HttpRequestException e)
            when (e is { HttpRequestError: HttpRequestError.SecureConnectionError, InnerException: { } refusal })
        {
            // Its own message says "see inner exception"; the inner one says which certificate check failed.
            throw new HubTransientException($"no secure connection ({refusal.Message})", inner: e);
        }
        catch (Exception e) when (e is HttpRequestException or IOException)
        {
            throw new HubTransientException($"the connection failed ({e.Message})", inner: e);
        }
        finally
        {
            waits = false;
        }
    }

    public void Dispose()
    {
        timer.Dispose();
        source.Dispose();
    }

    private void Look()
    {
        if (!waits || time.GetElapsedTime(Volatile.Read(ref since)) < limit)
        {
            return;
        }
        try
        {
            source.Cancel();
        }
        catch (ObjectDisposedException) { } // the work ended while the timer was on its way
    }
}
