using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
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
        options.AddTo(command);
        command.Options.Add(only);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    var wanted = Wanted(parsed.GetValue(only) ?? []);
                    Execute(options.Open(parsed), wanted, cancel);
                    return 0;
                }
            )
        );
        return command;
    }

    private static void Execute(RunInputs run, IReadOnlySet<string> wanted, CancellationToken cancel)
    {
        var clock = Stopwatch.StartNew();
        using var held = RunLock.Acquire(run.Folder);
        var graph = new StageGraph(run);
        int made = 0;
        ConsoleProgress.Run(progress => made = graph.Run(wanted, progress, cancel));
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
