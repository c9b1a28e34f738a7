using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pipeline.Executors;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Spectre.Console;

namespace Pipeline.Commands;

/// <summary><c>sae run PIPELINE.yaml</c></summary>
internal static class RunCommand
{
    public static Command Create()
    {
        var options = new PipelineOptions();
        var only = new Option<string[]>("--only")
        {
            Description = "Run these stages alone: " + string.Join(", ", StageGraph.StageNames) + ".",
            AllowMultipleArgumentsPerToken = true,
        };
        var command = new Command("run", "Runs what is stale, skips what is up to date, resumes what was interrupted.");
        var executor = new Option<string>("--executor")
        {
            Description = "local: in this process. slurm: as array jobs, as the pipeline's slurm section says.",
            DefaultValueFactory = _ => "local",
        };
        var shardIndex = new Option<int?>("--shard-index")
        {
            Description = "With --shard-count: do one worker's share of the stage --only names, counted from 0.",
        };
        var shardCount = new Option<int?>("--shard-count") { Description = "Workers that share the stage." };
        options.AddTo(command);
        command.Options.Add(only);
        command.Options.Add(executor);
        command.Options.Add(shardIndex);
        command.Options.Add(shardCount);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    var wanted = Wanted(parsed.GetValue(only) ?? []);
                    var share = Worker.Share(parsed.GetValue(shardIndex), parsed.GetValue(shardCount));
                    var (config, folder) = options.Load(parsed);
                    if (share is not null)
                    {
                        Share(options.Open(parsed, config, folder, cancel), wanted, share, cancel);
                        return 0;
                    }
                    // Before anything large is read: a second run is refused at once.
                    using var held = RunLock.Acquire(folder);
                    bool slurm = UsesSlurm(parsed.GetValue(executor)!);
                    var run = options.Open(parsed, config, folder, cancel, slurm ? config.Slurm.Cpus : null);
                    IExecutor where = slurm
                        ? new SlurmExecutor(config.Slurm, [.. ThisProgram(), "run", .. options.Repeat(parsed, run)])
                        : new LocalExecutor();
                    Execute(run, wanted, where, cancel);
                    return 0;
                }
            )
        );
        return command;
    }

    private static bool UsesSlurm(string executor) =>
        executor switch
        {
            "local" => false,
            "slurm" => true,
            _ => throw new ConfigurationException(
                new Fault("--executor", $"'{executor}'", "local or slurm", "Choose one of these").ToString()
            ),
        };

    /// <summary>What starts this very program again: the executable, or dotnet and the assembly.</summary>
    private static IEnumerable<string> ThisProgram()
    {
        string executable = Environment.ProcessPath!;
        return Path.GetFileNameWithoutExtension(executable) == "dotnet"
            ? [executable, typeof(RunCommand).Assembly.Location]
            : [executable];
    }

    private static void Share(RunInputs run, HashSet<string> wanted, WorkShare share, CancellationToken cancel)
    {
        if (wanted.Count != 1)
        {
            throw new ConfigurationException(
                new Fault(
                    "--shard-index",
                    $"{wanted.Count} stages",
                    "one stage a worker shares in",
                    "Name it with --only"
                ).ToString()
            );
        }
        ConsoleProgress.Run(progress => Worker.Run(new StageGraph(run), wanted.Single(), share, progress, cancel));
    }

    private static void Execute(
        RunInputs run,
        IReadOnlySet<string> wanted,
        IExecutor executor,
        CancellationToken cancel
    )
    {
        var clock = Stopwatch.StartNew();
        var graph = new StageGraph(run);
        int made = 0;
        ConsoleProgress.Run(progress => made = graph.Make(wanted, executor, progress, cancel));
        if (made == 0)
        {
            Console.WriteLine($"{run.Folder}: everything is up to date, nothing to do.");
        }
        SummaryTable.Print(graph);
        string report = Path.Combine(run.Folder, "report", "index.html");
        Console.WriteLine(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{made} of {graph.All().Count()} stage folders made in {clock.Elapsed.TotalSeconds:F1} s."
            )
        );
        if (File.Exists(report))
        {
            Console.WriteLine($"Report: {Path.GetFullPath(report)}");
        }
    }

    private static HashSet<string> Wanted(string[] given)
    {
        string[] names = [.. given.SelectMany(text => text.Split(',', StringSplitOptions.RemoveEmptyEntries))];
        if (names.FirstOrDefault(name => !StageGraph.StageNames.Contains(name)) is { } unknown)
        {
            throw new ConfigurationException(
                new Fault(
                    "--only",
                    $"'{unknown}'",
                    "stages among " + string.Join(", ", StageGraph.StageNames),
                    "Name one of these"
                ).ToString()
            );
        }
        return [.. names.Length == 0 ? StageGraph.StageNames : names];
    }
}
