using System.Globalization;
using Pipeline.Harvest;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Executors;

/// <summary>
/// One of several processes that share a stage: <c>sae run PIPELINE --only STAGE --shard-index I --shard-count K</c>. It does
/// its share of what is missing and seals no more than its own SAEs; the folder's lock belongs to whoever started the
/// workers. The artifacts are the same whatever K is.
/// </summary>
internal static class Worker
{
    private static readonly TimeSpan LongestWaitToBegin = TimeSpan.FromMinutes(1);

    /// <exception cref="ConfigurationException">A stage that cannot be shared, or one whose inputs are not there.</exception>
    public static void Run(
        StageGraph graph,
        string stage,
        WorkShare share,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        if (stage is not ("harvest" or "train" or "evaluate"))
        {
            throw new ConfigurationException(
                new Fault("--only", $"'{stage}'", "harvest, train or evaluate", "Run it without workers").ToString()
            );
        }
        graph.RequireUpstream(stage, new HashSet<string> { stage });
        var local = new LocalExecutor();
        switch (stage)
        {
            case "harvest":
                BeginHarvest(graph, cancel);
                HarvestStage.RunShare(graph.Run, graph.Harvest, share, progress, cancel);
                break;
            case "train":
                ForEachOwn(graph, share, sae => sae.Train, sae => local.Train(graph, [sae], progress, cancel));
                break;
            default:
                ForEachOwn(graph, share, sae => sae.Evaluate, sae => local.Evaluate(graph, [sae], progress, cancel));
                break;
        }
    }

    /// <summary>The first worker makes the folder ready; the others find it so.</summary>
    private static void BeginHarvest(StageGraph graph, CancellationToken cancel)
    {
        using var gate = Acquire(graph.Run.Folder, "harvest", LongestWaitToBegin, cancel);
        graph.Harvest.Refresh();
        if (graph.Harvest.State is not (StageState.Partial or StageState.UpToDate))
        {
            graph.Harvest.Begin(graph.Run.Environment);
        }
        graph.Harvest.Join(graph.Run.Environment, graph.Run.AllowDrift);
    }

    private static void ForEachOwn(
        StageGraph graph,
        WorkShare share,
        Func<SaeNode, StageFolder> folderOf,
        Action<SaeNode> work
    )
    {
        for (int i = 0; i < graph.Saes.Count; i++)
        {
            if (!share.Includes(i))
            {
                continue;
            }
            var folder = folderOf(graph.Saes[i]);
            string name = Path.GetRelativePath(graph.Run.Folder, folder.Path).Replace(Path.DirectorySeparatorChar, '+');
            using var own = Acquire(graph.Run.Folder, name, TimeSpan.Zero, CancellationToken.None);
            folder.Refresh();
            if (folder.State != StageState.UpToDate)
            {
                work(graph.Saes[i]);
            }
        }
    }

    private static RunLock Acquire(string runFolder, string name, TimeSpan patience, CancellationToken cancel)
    {
        string folder = Path.Combine(runFolder, ".workers", name);
        long begun = TimeProvider.System.GetTimestamp();
        while (true)
        {
            try
            {
                return RunLock.Acquire(folder);
            }
            catch (FolderLockedException) when (TimeProvider.System.GetElapsedTime(begun) < patience)
            {
                cancel.WaitHandle.WaitOne(TimeSpan.FromMilliseconds(100));
                cancel.ThrowIfCancellationRequested();
            }
        }
    }

    /// <summary>A worker's number from the command line; null where there is none.</summary>
    /// <exception cref="ConfigurationException">One of the two without the other, or a number beyond the count.</exception>
    public static WorkShare? Share(int? index, int? count)
    {
        if (index is null && count is null)
        {
            return null;
        }
        return index is { } i && count is { } k && i >= 0 && i < k
            ? new WorkShare(i, k)
            : throw new ConfigurationException(
                new Fault(
                    "--shard-index, --shard-count",
                    string.Create(CultureInfo.InvariantCulture, $"{Show(index)} of {Show(count)}"),
                    "both, the index from 0 to the count - 1",
                    "Correct them"
                ).ToString()
            );
    }

    private static string Show(int? number) => number?.ToString(CultureInfo.InvariantCulture) ?? "nothing";
}
