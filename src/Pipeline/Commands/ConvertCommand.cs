using System.CommandLine;
using System.Globalization;
using Pipeline.Shared.Autoencoders.Formats;

namespace Pipeline.Commands;

/// <summary><c>sae convert SAE --to FORMAT --out DIR</c></summary>
internal static class ConvertCommand
{
    public static Command Create()
    {
        var sae = new Argument<string>("sae")
        {
            Description = "An SAE's folder (SAELens, dictionary_learning, sparsify) or .pt file (OpenAI).",
        };
        var to = new Option<string>("--to")
        {
            Description = string.Join(", ", SaeFormats.All.Select(format => format.Name)) + ".",
            Required = true,
        };
        var outFolder = new Option<string>("--out") { Description = "A new or empty folder.", Required = true };
        var command = new Command("convert", "Reads an SAE of any of the four libraries, writes any of the four.");
        command.Arguments.Add(sae);
        command.Options.Add(to);
        command.Options.Add(outFolder);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                _ =>
                {
                    string folder = parsed.GetValue(outFolder)!;
                    var target = SaeFormats.Named(parsed.GetValue(to)!);
                    var done = SaeConversion.Run(parsed.GetValue(sae)!, target, folder);
                    Console.WriteLine(
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"{folder}: {done.Architecture}, from {done.From} to {target.Name}; read again, its reconstructions differ by at most {done.LargestDifference:G2} of the largest."
                        )
                    );
                    return 0;
                }
            )
        );
        return command;
    }
}
