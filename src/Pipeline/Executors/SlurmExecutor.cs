using System.Globalization;
using System.Text;
using Pipeline.Harvest;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Executors;

/// <summary>
/// Stages as array jobs of <see cref="Worker"/>s on a shared file system:
/// <code>submit what is missing ──> wait until the queue is empty ──> look at the folders ──> submit what is still missing</code>
/// The folders say what is done, never the queue: a lost array, a killed node or a worker that died is what is missing
/// afterwards, and goes out again.
/// </summary>
internal sealed class SlurmExecutor(SlurmConfig config, IReadOnlyList<string> workerCommand) : IExecutor
{
    private const int Rounds = 3;
    private const int PatienceWithController = 60;
    private static readonly TimeSpan Poll = TimeSpan.FromSeconds(1);

    public void Harvest(StageGraph graph, IProgressSink progress, CancellationToken cancel)
    {
        graph.Harvest.Begin(graph.Run.Environment, graph.Run.AllowDrift);
        RunRounds(
            graph,
            "harvest",
            config.Workers,
            () => HarvestStage.MissingShards(graph.Run, graph.Harvest),
            () => graph.Harvest.RecordedParts / graph.Run.Hooks.Count,
            progress,
            cancel
        );
        HarvestStage.Run(graph.Run, graph.Harvest, progress, cancel); // finds every shard whole, and seals
    }

    public void Train(
        StageGraph graph,
        IReadOnlyList<SaeNode> stale,
        IProgressSink progress,
        CancellationToken cancel
    ) => RunNodes(graph, "train", stale, s => s.Train, progress, cancel);

    public void Evaluate(
        StageGraph graph,
        IReadOnlyList<SaeNode> stale,
        IProgressSink progress,
        CancellationToken cancel
    ) => RunNodes(graph, "evaluate", stale, s => s.Evaluate, progress, cancel);

    private void RunNodes(
        StageGraph graph,
        string stage,
        IReadOnlyList<SaeNode> stale,
        Func<SaeNode, StageFolder> folderOf,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        RunRounds(
            graph,
            stage,
            graph.Saes.Count,
            () => Missing(graph, stale, folderOf),
            () => stale.Count - Missing(graph, stale, folderOf).Count,
            progress,
            cancel
        );
    }

    private static List<int> Missing(
        StageGraph graph,
        IReadOnlyList<SaeNode> stale,
        Func<SaeNode, StageFolder> folderOf
    )
    {
        var missing = new List<int>();
        for (int i = 0; i < graph.Saes.Count; i++)
        {
            if (stale.Contains(graph.Saes[i]))
            {
                folderOf(graph.Saes[i]).Refresh();
                if (folderOf(graph.Saes[i]).State != StageState.UpToDate)
                {
                    missing.Add(i);
                }
            }
        }
        return missing;
    }

    private void RunRounds(
        StageGraph graph,
        string stage,
        int workers,
        Func<IReadOnlyList<int>> missing,
        Func<int> done,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        string logs = Path.Combine(Path.GetFullPath(graph.Run.Folder), ".slurm");
        var left = missing();
        int total = left.Count + done();
        for (int round = 0; left.Count > 0; round++)
        {
            if (round == Rounds)
            {
                throw new StageFailedException(
                    new Fault(
                        $"{stage} on Slurm",
                        $"{left.Count} pieces of work not done after {Rounds} rounds ({string.Join(", ", left.Take(8))})",
                        "all done",
                        $"Read the newest {Path.Combine(logs, stage)}-*.log; running again goes on from what is done"
                    ).ToString()
                );
            }
            string job = Submit(stage, workers, [.. left.Select(piece => piece % workers).Distinct().Order()], logs);
            progress.Say($"{stage}: {left.Count} pieces of work as Slurm job {job}.");
            Wait(stage, job, done, total, progress, cancel);
            left = missing();
        }
    }

    private string Submit(string stage, int workers, IReadOnlyList<int> indices, string logs)
    {
        string array = string.Join(',', indices.Select(i => i.ToString(CultureInfo.InvariantCulture)));
        List<string> arguments =
        [
            string.Create(CultureInfo.InvariantCulture, $"--array={array}%{config.Workers}"),
            $"--job-name=sae-{stage}",
            $"--output={Path.Combine(logs, stage)}-%A_%a.log",
            string.Create(CultureInfo.InvariantCulture, $"--cpus-per-task={config.Cpus}"),
        ];
        AddIfGiven("--mem", config.Memory);
        AddIfGiven("--partition", config.Partition);
        AddIfGiven("--time", config.Time);
        arguments.AddRange(config.Arguments);
        string script = Path.Combine(logs, $"{stage}.sh");
        AtomicFile.WriteText(script, Script(stage, workers));
        return Slurm.Submit(arguments, script);

        void AddIfGiven(string option, string? value)
        {
            if (value is not null)
            {
                arguments.Add($"{option}={value}");
            }
        }
    }

    private string Script(string stage, int workers)
    {
        IEnumerable<string> command =
        [
            .. workerCommand,
            "--only",
            stage,
            "--shard-count",
            workers.ToString(CultureInfo.InvariantCulture),
        ];
        return new StringBuilder()
            .Append("#!/bin/bash\n")
            .Append(CultureInfo.InvariantCulture, $"cd {Quoted(Environment.CurrentDirectory)} || exit 1\n")
            .Append(CultureInfo.InvariantCulture, $"exec {string.Join(' ', command.Select(Quoted))}")
            .Append(" --shard-index \"$SLURM_ARRAY_TASK_ID\"\n")
            .ToString();
    }

    private static string Quoted(string text) => $"'{text.Replace("'", "'\\''", StringComparison.Ordinal)}'";

    private static void Wait(
        string stage,
        string job,
        Func<int> done,
        int total,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        int unanswered = 0;
        bool? queued = true;
        while (queued != false)
        {
            if (cancel.WaitHandle.WaitOne(Poll))
            {
                Slurm.Cancel(job);
                throw new RunInterruptedException(
                    $"{stage}: interrupted, Slurm job {job} cancelled. Run the command again to go on."
                );
            }
            queued = Slurm.IsQueued(job);
            unanswered = queued is null ? unanswered + 1 : 0;
            if (unanswered == PatienceWithController)
            {
                throw new StageFailedException(
                    new Fault(
                        $"{stage} on Slurm",
                        $"no answer from the controller in {PatienceWithController} tries",
                        "an answer to squeue",
                        $"Run again when it answers; job {job} may still run, and what it finishes counts"
                    ).ToString()
                );
            }
            progress.Update(stage, done(), total, "pieces");
        }
    }
}
