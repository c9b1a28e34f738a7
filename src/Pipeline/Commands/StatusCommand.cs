using System.CommandLine;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Commands;

/// <summary><c>sae status DIR</c>: what of a run is done.</summary>
internal static class StatusCommand
{
    public static Command Create()
    {
        var folder = RunFolder.Argument();
        var command = new Command("status", "Says which stages of a run are complete, damaged or unfinished.");
        command.Arguments.Add(folder);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                _ =>
                {
                    string root = parsed.GetValue(folder)!;
                    foreach (string stage in RunFolder.Stages(root))
                    {
                        Console.WriteLine($"{Describe(stage), -11} {Path.GetRelativePath(root, stage)}");
                    }
                    return 0;
                }
            )
        );
        return command;
    }

    private static string Describe(string stage)
    {
        try
        {
            return Manifest.TryRead(stage) is not { } manifest ? "unfinished"
                : manifest.Verify(stage, rehash: false).Any() ? "damaged"
                : "complete";
        }
        catch (CorruptArtifactException)
        {
            return "damaged";
        }
    }
}
