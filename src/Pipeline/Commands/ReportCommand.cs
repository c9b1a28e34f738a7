using System.CommandLine;
using Pipeline.Evaluate.Report;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Commands;

/// <summary><c>sae report DIR</c>: builds a run's page again.</summary>
internal static class ReportCommand
{
    public static Command Create()
    {
        var folder = RunFolder.Argument();
        var command = new Command("report", "Builds the static report of a run again.");
        command.Arguments.Add(folder);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                _ =>
                {
                    string root = parsed.GetValue(folder)!;
                    using var held = RunLock.Acquire(root);
                    Console.WriteLine($"Report: {ReportStage.Rebuild(root)}");
                    return 0;
                }
            )
        );
        return command;
    }
}
