using System.CommandLine;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Commands;

/// <summary><c>sae verify DIR</c>: hashes every artifact again.</summary>
internal static class VerifyCommand
{
    public static Command Create()
    {
        var folder = RunFolder.Argument();
        var command = new Command(
            "verify",
            "Hashes every artifact again and lists what is missing or altered (exit 3)."
        );
        command.Arguments.Add(folder);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed => CommandRunner.Run(parsed, _ => Verify(parsed.GetValue(folder)!)));
        return command;
    }

    private static int Verify(string root)
    {
        int files = 0;
        var problems = new List<string>();
        foreach (string stage in RunFolder.Stages(root))
        {
            try
            {
                if (Manifest.TryRead(stage) is { } manifest)
                {
                    files += manifest.Outputs.Count + 1;
                    problems.AddRange(manifest.Verify(stage, rehash: true).Select(fault => fault.ToString()));
                }
            }
            catch (CorruptArtifactException e)
            {
                problems.Add(e.Message);
            }
        }
        problems.ForEach(Console.Error.WriteLine);
        Console.WriteLine(
            problems.Count == 0 ? $"{files} files verified." : $"{problems.Count} of {files} files are bad or missing."
        );
        return problems.Count == 0 ? 0 : 3;
    }
}
