using System.CommandLine;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Hub;
using Pipeline.Train.Pretraining;

namespace Pipeline.Commands;

/// <summary><c>sae pretrain CONFIG.yaml</c>: a small language model and its tokenizer from text.</summary>
internal static class PretrainCommand
{
    public static Command Create()
    {
        var file = new Argument<string>("config") { Description = "A pretraining file (YAML)." };
        var settings = new Option<string[]>("--set")
        {
            Description = "A setting in place of the file's: path.to.key=value.",
        };
        var command = new Command("pretrain", "Trains a small language model and its tokenizer from text, resumably.");
        command.Arguments.Add(file);
        command.Options.Add(settings);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    var config = YamlConfiguration.Load<PretrainConfig>(
                        parsed.GetValue(file)!,
                        parsed.GetValue(settings) ?? []
                    );
                    ConsoleProgress.Run(progress =>
                    {
                        if (HubFolder.IsHubUrl(config.Text)) // the stage finds it in the cache
                        {
                            HubFolder.Fetch(config.Text, progress, cancel);
                        }
                        PretrainStage.Run(config, progress, cancel);
                    });
                    return 0;
                }
            )
        );
        return command;
    }
}
