using System.CommandLine;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Commands;

/// <summary><c>sae explain PIPELINE.yaml</c>: what a run would do, and why.</summary>
internal static class ExplainCommand
{
    public static Command Create()
    {
        var options = new PipelineOptions();
        var command = new Command("explain", "Says for each stage whether it would run, and why.");
        options.AddTo(command);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    var (config, runFolder) = options.Load(parsed);
                    var run = options.Open(parsed, config, runFolder, cancel);
                    foreach (var (_, folder) in new StageGraph(run).All())
                    {
                        string name = Path.GetRelativePath(run.Folder, folder.Path);
                        string verdict = folder.State == StageState.UpToDate ? "skip" : "run ";
                        Console.WriteLine($"{verdict}  {name}: {folder.Reason}");
                    }
                    return 0;
                }
            )
        );
        return command;
    }
}
