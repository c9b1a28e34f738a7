using System.CommandLine;
using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Harvest;
using Pipeline.Shared;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Train;

namespace Pipeline.Commands;

/// <summary><c>sae bench NAME</c>: the project's own benchmarks, each with its bound measured in the same run.</summary>
internal static class BenchCommand
{
    private static readonly IntOption Width = new("--d-model", 768, "D, the width of an activation.");
    private static readonly IntOption Features = new("--features", 24_576, "F, latents.");
    private static readonly IntOption Kept = new("--k", 32, "K, latents kept.");
    private static readonly IntOption Batch = new("--batch", 4096, "B, rows.");
    private static readonly IntOption Contexts = new("--batch", 4, "B, contexts a forward.");
    private static readonly IntOption Context = new("--context", 512, "T, tokens a context.");
    private static readonly IntOption Layers = new("--layers", 12, "Blocks.");
    private static readonly IntOption Heads = new("--heads", 12, "Attention heads; they divide D.");
    private static readonly IntOption Rows = new("--rows", 256_000, "Activations.");
    private static readonly IntOption Tokens = new("--tokens", 50_000, "Tokens.");
    private static readonly IntOption Expansion = new("--expansion", 8, "F over D.");
    private static readonly IntOption Repeats = new("--repeats", 5, "Measured repeats, at least 5.") { Least = 5 };

    private static readonly Option<string> Kind = new("--architecture")
    {
        Description = "The SAE's architecture, as configurations spell it. Default topk.",
        DefaultValueFactory = _ => "topk",
    };
    private static readonly Option<double> DeadFraction = new("--dead-fraction")
    {
        Description = "Share of latents, from 0 to below 1, that are dead and that AuxK works on. Default 0.",
    };
    private static readonly Option<bool> Twin = new("--twin")
    {
        Description = "Measure the plain twin beside it: autograd over dense tensors, Adam tensor by tensor.",
    };
    private static readonly Option<string> Dtype = new("--dtype")
    {
        Description = "How activations are stored: float32, float16, bfloat16 or int8. Default float16.",
        DefaultValueFactory = _ => "float16",
    };
    private static readonly Option<string> Model = new("--model")
    {
        Description = "A model folder. Default data/models/wiki-6l.",
        DefaultValueFactory = _ => "data/models/wiki-6l",
    };
    private static readonly Option<string> ForwardModel = new("--model")
    {
        Description = "A model folder in place of the GPT-2 shape with random weights.",
    };
    private static readonly Option<string> Text = new("--text")
    {
        Description = "A text source. Default data/text/encyclopedia.jsonl.",
        DefaultValueFactory = _ => "data/text/encyclopedia.jsonl",
    };
    private static readonly Option<string[]> Hooks = new("--hooks")
    {
        Description = "Hooks. Default blocks.2.hook_resid_post.",
        AllowMultipleArgumentsPerToken = true,
        DefaultValueFactory = _ => ["blocks.2.hook_resid_post"],
    };
    private static readonly Option<int?> Threads = new("--threads")
    {
        Description = "CPU threads (default: libtorch's choice).",
    };
    private static readonly Option<bool> Json = new("--json") { Description = "Print one JSON object." };

    public static Command Create()
    {
        var command = new Command(
            "bench",
            "The project's own benchmarks, each with its bound measured in the same run."
        );
        command.Subcommands.Add(
            Benchmark(
                "sae-step",
                "One training step against GEMM + one pass of Adam over memory.",
                [Kind, Width, Features, Kept, Batch, DeadFraction, Twin, Repeats],
                SaeStep
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "select",
                "Exact top-k of each row, and of a batch, against one reading of the scores.",
                [Width, Features, Kept, Batch, Repeats],
                parsed =>
                    SelectBenchmark.Run(
                        Width.Of(parsed),
                        Batch.Of(parsed),
                        Features.Of(parsed),
                        Kept.Of(parsed, most: Features.Of(parsed)),
                        Repeats.Of(parsed)
                    )
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "forward",
                "A harvest's forward pass against its own matrix products.",
                [Width, Layers, Heads, Contexts, Context, Repeats, ForwardModel],
                Forward
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "dataset",
                "Training's shuffled batches against the same rows in their order.",
                [Width, Rows, Batch, Repeats, Dtype],
                parsed =>
                    InTemporaryFolder(folder =>
                        DatasetBenchmark.Run(
                            folder,
                            Width.Of(parsed),
                            Rows.Of(parsed, least: Batch.Of(parsed)),
                            Batch.Of(parsed),
                            DtypeOf(parsed),
                            Repeats.Of(parsed)
                        )
                    )
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "text",
                "A text source read to its end against its files' bytes.",
                [Text, Repeats],
                parsed => TextBenchmark.Run(TextSources.Open(parsed.GetValue(Text)!, Text.Name), Repeats.Of(parsed))
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "harvest",
                "The harvest stage against its forward passes alone.",
                [Model, Text, Hooks, Tokens, Contexts, Context, Repeats, Dtype],
                parsed => OnPipeline(parsed, run => HarvestBenchmark.Run(run, Repeats.Of(parsed)))
            )
        );
        command.Subcommands.Add(
            Benchmark(
                "evaluate",
                "The evaluate stage against its forward passes alone.",
                [Model, Text, Hooks, Tokens, Contexts, Context, Expansion, Kept, Repeats],
                parsed => OnPipeline(parsed, run => EvaluateBenchmark.Run(run, Repeats.Of(parsed)))
            )
        );
        return command;
    }

    private static Command Benchmark(
        string name,
        string description,
        IReadOnlyList<Option> options,
        Func<ParseResult, JsonObject> measure
    )
    {
        var command = new Command(name, description);
        foreach (var option in options.Concat([Threads, Json, CommandRunner.Verbose]))
        {
            command.Options.Add(option);
        }
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                _ =>
                {
                    CommandRunner.UseThreads(parsed.GetValue(Threads));
                    var result = measure(parsed);
                    Console.WriteLine(
                        parsed.GetValue(Json)
                            ? result.ToJsonString()
                            : string.Join('\n', result.Select(figure => $"{figure.Key, -22} {figure.Value}"))
                    );
                    return 0;
                }
            )
        );
        return command;
    }

    private static JsonObject SaeStep(ParseResult parsed)
    {
        var architecture = EnumOf<Architecture>(parsed, Kind);
        double deadFraction = parsed.GetValue(DeadFraction);
        double mostDead = architecture
            is Architecture.TopK
                or Architecture.BatchTopK
                or Architecture.MatryoshkaBatchTopK
            ? 1
            : 0;
        if (deadFraction != 0 && !(deadFraction > 0 && deadFraction < mostDead))
        {
            throw new ConfigurationException(
                new Fault(
                    "--dead-fraction",
                    $"{deadFraction} with {Spelling.Of(architecture)}",
                    "0, or for the topk family 0 to below 1",
                    "Choose another share or architecture"
                ).ToString()
            );
        }
        return new SaeStepBenchmark
        {
            Architecture = architecture,
            Width = Width.Of(parsed),
            Features = Features.Of(parsed),
            K = Kept.Of(parsed, most: Features.Of(parsed)),
            Batch = Batch.Of(parsed),
            Repeats = Repeats.Of(parsed),
            DeadFraction = deadFraction,
            WithTwin = parsed.GetValue(Twin),
        }.Run();
    }

    private static JsonObject Forward(ParseResult parsed)
    {
        int context = Context.Of(parsed, least: 2);
        if (parsed.GetValue(ForwardModel) is { } folder)
        {
            var opened = ModelFolder.Open(folder);
            using var real = opened.Load();
            int most = opened.Config.Context;
            return ForwardBenchmark.Run(
                real,
                Contexts.Of(parsed),
                Context.Of(parsed, least: 2, most),
                Repeats.Of(parsed)
            );
        }
        int heads = Heads.Of(parsed);
        int width = Width.Of(parsed);
        if (width % heads != 0)
        {
            throw new ConfigurationException(
                new Fault("--heads", $"{heads}", $"a divisor of {width}", "Choose another number").ToString()
            );
        }
        using var model = ForwardBenchmark.Gpt2Shaped(width, Layers.Of(parsed), heads, context);
        return ForwardBenchmark.Run(model, Contexts.Of(parsed), context, Repeats.Of(parsed));
    }

    /// <summary>Half the documents held out, so that a short text has enough of both.</summary>
    private static JsonObject OnPipeline(ParseResult parsed, Func<RunInputs, JsonObject> measure) =>
        InTemporaryFolder(folder =>
        {
            var tokens = new TokenCount(Tokens.Of(parsed));
            var config = new PipelineConfig
            {
                Name = "bench",
                Model = parsed.GetValue(Model)!,
                Text = parsed.GetValue(Text)!,
                Harvest = new HarvestConfig
                {
                    Hooks = parsed.GetValue(Hooks)!,
                    Context = Math.Min(
                        Context.Of(parsed, least: 2),
                        ModelFolder.Open(parsed.GetValue(Model)!).Config.Context
                    ),
                    Tokens = tokens,
                    Batch = Contexts.Of(parsed),
                    Dtype = DtypeOf(parsed),
                    HeldOut = 0.5,
                },
                Train = new TrainConfig
                {
                    Tokens = tokens,
                    Saes =
                    [
                        new SaeConfig
                        {
                            Architecture = Architecture.TopK,
                            K = KeptOr(parsed),
                            Expansion = ExpansionOr(parsed),
                        },
                    ],
                },
                Evaluate = new EvaluateConfig
                {
                    Tokens = tokens,
                    Batch = Contexts.Of(parsed),
                    Baselines = false,
                },
            };
            return measure(RunInputs.Open(config, "bench", folder, TorchSharp.torch.CPU));
        });

    private static int KeptOr(ParseResult parsed) =>
        parsed.CommandResult.Command.Options.Contains(Kept) ? Kept.Of(parsed) : 1;

    private static int ExpansionOr(ParseResult parsed) =>
        parsed.CommandResult.Command.Options.Contains(Expansion) ? Expansion.Of(parsed) : 1;

    private static ActivationDtype DtypeOf(ParseResult parsed) =>
        parsed.CommandResult.Command.Options.Contains(Dtype)
            ? EnumOf<ActivationDtype>(parsed, Dtype)
            : ActivationDtype.Float16;

    /// <summary>A choice by its spelling in configurations, refused by name where there is none such.</summary>
    private static T EnumOf<T>(ParseResult parsed, Option<string> option)
        where T : struct, Enum
    {
        string name = parsed.GetValue(option)!;
        var kinds = Enum.GetValues<T>();
        int index = Array.FindIndex(kinds, kind => Spelling.Of(kind) == name);
        return index >= 0
            ? kinds[index]
            : throw new ConfigurationException(
                new Fault(
                    option.Name,
                    $"'{name}'",
                    string.Join(", ", kinds.Select(kind => Spelling.Of(kind))),
                    "Choose one of these"
                ).ToString()
            );
    }

    private static JsonObject InTemporaryFolder(Func<string, JsonObject> measure)
    {
        string folder = Directory.CreateTempSubdirectory("sae-bench-").FullName;
        try
        {
            return measure(folder);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    /// <summary>A whole number with a default and a range, refused by name beyond it.</summary>
    private sealed class IntOption : Option<int>
    {
        public IntOption(string name, int usual, string description)
            : base(name)
        {
            Description = $"{description} Default {usual}.";
            DefaultValueFactory = _ => usual;
        }

        public int Least { get; init; } = 1;

        public int Of(ParseResult parsed, int? least = null, int most = int.MaxValue)
        {
            int value = parsed.GetValue(this);
            int lowest = least ?? Least;
            return value >= lowest && value <= most
                ? value
                : throw new ConfigurationException(
                    new Fault(Name, $"{value}", $"{lowest} to {most}", "Choose a value in this range").ToString()
                );
        }
    }
}
