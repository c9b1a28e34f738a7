using System.CommandLine;
using Pipeline.Shared.Hub;

namespace Pipeline.Commands;

/// <summary><c>sae fetch hf://ORG/NAME[@REVISION][/PATH]</c>: brings files of the Hugging Face hub to this machine.</summary>
internal static class FetchCommand
{
    public static Command Create()
    {
        var name = new Argument<string>("name")
        {
            Description =
                "hf://ORG/NAME[@REVISION][/PATH], or hf://datasets/ORG/NAME[@REVISION][/PATH]; PATH is a file, a folder or a glob.",
        };
        var command = new Command(
            "fetch",
            "Fetches a model, a dataset or single files from the Hugging Face hub, checks them, and prints where they are."
        );
        command.Arguments.Add(name);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    HubSnapshot? snapshot = null;
                    // Progress goes to the error stream where the output is read by a script: that is the path alone.
                    ConsoleProgress.Run(
                        sink => snapshot = HubFolder.Fetch(parsed.GetValue(name)!, sink, cancel),
                        Console.Error
                    );
                    Console.WriteLine(snapshot!.Path);
                    return 0;
                }
            )
        );
        return command;
    }
}
