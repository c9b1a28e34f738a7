namespace Pipeline.Shared.Hub;

/// <summary>How often one piece of work failed since it last came further than ever before.</summary>
internal sealed class HubAttempts(string what, int tries, IProgressSink progress)
{
    /// <summary>Less does not count, or a server that drops after every byte would keep a download alive for ever.</summary>
    private const long CountsAsProgress = 1 << 20;

    private long furthest;
    private long counted;

    public int Failures { get; private set; }

    /// <summary>Tells how many bytes of the file are there; starting over takes nothing back.</summary>
    public void Reached(long bytes) => furthest = Math.Max(furthest, bytes);

    /// <summary>Counts a failure.</summary>
    /// <param name="most">Tries in a row, if fewer than usual.</param>
    public bool MayTryAgain(int most = int.MaxValue)
    {
        if (furthest - counted >= CountsAsProgress)
        {
            (Failures, counted) = (0, furthest);
        }
        Failures++;
        return Failures < Math.Min(tries, most);
    }

    public void Say(Exception e, TimeSpan wait) =>
        progress.Say($"{what}: {e.Message}; trying again in {wait.TotalSeconds:0} s");
}
