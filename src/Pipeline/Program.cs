using System.CommandLine;
using Pipeline;
using Pipeline.Commands;

OpenMp.WaitPassively();

var root = new RootCommand(
    "Harvests activations of language models, trains sparse autoencoders on them, and measures them."
);
root.Subcommands.Add(RunCommand.Create());
root.Subcommands.Add(ExplainCommand.Create());
root.Subcommands.Add(StatusCommand.Create());
root.Subcommands.Add(VerifyCommand.Create());
root.Subcommands.Add(ScoreCommand.Create());
root.Subcommands.Add(PretrainCommand.Create());
root.Subcommands.Add(FetchCommand.Create());
root.Subcommands.Add(ReportCommand.Create());
root.Subcommands.Add(ViewCommand.Create());
root.Subcommands.Add(ConvertCommand.Create());
root.Subcommands.Add(BenchCommand.Create());

var parsed = root.Parse(args);
if (parsed.Errors.Count > 0)
{
    foreach (var error in parsed.Errors)
    {
        Console.Error.WriteLine(error.Message);
    }
    Console.Error.WriteLine("See sae --help, or sae VERB --help.");
    return 2;
}
return parsed.Invoke(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
