namespace Pipeline.Shared.Hub;

/// <summary>Adds up the bytes of files that arrive in parallel; the sink below is called by one thread at a time.</summary>
internal sealed class FetchProgress(IProgressSink sink, string task, IReadOnlyList<HubFile> files) : IProgressSink
{
    private const long Step = 1 << 20;

    private readonly Lock gate = new();
    private readonly Dictionary<HubFile, long> arrived = [];
    private readonly double total = files.Sum(file => (double)file.Size); // what a listing says may be too much for a long
    private long done;
    private long shown;

    /// <summary>So many bytes of a file are there now, fewer where it was started over.</summary>
    public void Set(HubFile file, long bytes)
    {
        lock (gate)
        {
            long before = arrived.GetValueOrDefault(file);
            if (bytes == before)
            {
                return;
            }
            done += bytes - before;
            arrived[file] = bytes;
            if (done == total || Math.Abs(done - shown) >= Step)
            {
                shown = done;
                sink.Update(task, done, total, "bytes", file.Path);
            }
        }
    }

    public void Say(string line)
    {
        lock (gate)
        {
            sink.Say(line);
        }
    }

    public void Update(string task, double done, double total, string unit, string detail = "")
    {
        lock (gate)
        {
            sink.Update(task, done, total, unit, detail);
        }
    }
}
