using System.CommandLine;
using Pipeline.Shared;
using Pipeline.Train;

namespace Pipeline.Commands;

/// <summary><c>sae bench NAME</c>: the project's own benchmarks, each with its bound measured in the same run.</summary>
internal static class BenchCommand
{
    public static Command Create()
    {
        var command = new Command(
            "bench",
            "The project's own benchmarks, each with its bound measured in the same run."
        );
        command.Subcommands.Add(CreateSaeStep());
        return command;
    }

    private static Command CreateSaeStep()
    {
        var width = Number("--d-model", 768, "D, the width of an activation.");
        var features = Number("--features", 24_576, "F, latents.");
        var k = Number("--k", 32, "K, latents kept.");
        var batch = Number("--batch", 4096, "B, activations a step.");
        var repeats = Number("--repeats", 5, "Measured steps after warm-up, at least 5.");
        var threads = new Option<int?>("--threads") { Description = "CPU threads (default: libtorch's choice)." };
        var json = new Option<bool>("--json") { Description = "Print one JSON object." };
        var command = new Command("sae-step", "One TopK training step against GEMM + one pass of Adam over memory.");
        foreach (
            Option option in new Option[] { width, features, k, batch, repeats, threads, json, CommandRunner.Verbose }
        )
        {
            command.Options.Add(option);
        }
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                _ =>
                {
                    int Value(Option<int> option, int least, int most = int.MaxValue) =>
                        parsed.GetValue(option) is var value && value >= least && value <= most
                            ? value
                            : throw new ConfigurationException(
                                new Fault(
                                    option.Name,
                                    $"{value}",
                                    $"{least} to {most}",
                                    "Choose a value in this range"
                                ).ToString()
                            );
                    CommandRunner.UseThreads(parsed.GetValue(threads));
                    int latents = Value(features, 1);
                    var result = SaeStepBenchmark.Run(
                        Value(width, 1),
                        latents,
                        Value(k, 1, latents),
                        Value(batch, 1),
                        Value(repeats, 5)
                    );
                    Console.WriteLine(
                        parsed.GetValue(json)
                            ? result.ToJsonString()
                            : string.Join('\n', result.Select(figure => $"{figure.Key, -14} {figure.Value}"))
                    );
                    return 0;
                }
            )
        );
        return command;
    }

    private static Option<int> Number(string name, int usual, string description) =>
        new(name) { Description = $"{description} Default {usual}.", DefaultValueFactory = _ => usual };
}
