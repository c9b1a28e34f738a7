using System.CommandLine;
using Pipeline.Evaluate;
using Pipeline.Shared;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Hub;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;

namespace Pipeline.Commands;

/// <summary><c>sae score MODEL TEXT</c>: how well a model predicts a text.</summary>
internal static class ScoreCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("model")
        {
            Description =
                "A model folder in Hugging Face layout, hf://ORG/NAME[@REVISION], or a model file of llama2.c or TransformerLens.",
        };
        var text = new Argument<string>("text") { Description = "A text source." };
        var tokens = new Option<long>("--tokens")
        {
            Description = "At most this many, in whole contexts (at least one).",
            DefaultValueFactory = _ => long.MaxValue,
        };
        var context = new Option<int?>("--context")
        {
            Description = "Tokens a context (default: the model's, at most 1024).",
        };
        var threads = new Option<int?>("--threads") { Description = "CPU threads." };
        var json = new Option<bool>("--json") { Description = "Print one JSON object." };
        var command = new Command("score", "Mean next-token cross-entropy of a model over a text, in nats.");
        command.Arguments.Add(model);
        command.Arguments.Add(text);
        command.Options.Add(tokens);
        command.Options.Add(context);
        command.Options.Add(threads);
        command.Options.Add(json);
        command.Options.Add(CommandRunner.Verbose);
        command.SetAction(parsed =>
            CommandRunner.Run(
                parsed,
                cancel =>
                {
                    CommandRunner.UseThreads(parsed.GetValue(threads));
                    string modelPath = Opened(
                        parsed.GetValue(model)!,
                        (path, sink) => HubFolder.Resolve(path, sink, cancel)
                    );
                    var score = Scorer.Score(
                        ModelFolder.Open(modelPath),
                        Tokenizers.Load(modelPath),
                        Opened(parsed.GetValue(text)!, (path, sink) => TextSources.Fetch(path, "text", sink, cancel)),
                        parsed.GetValue(tokens),
                        parsed.GetValue(context),
                        cancel
                    );
                    Console.WriteLine(parsed.GetValue(json) ? Json(score) : score.ToString());
                    return 0;
                }
            )
        );
        return command;
    }

    /// <summary>What is fetched is told on the error stream: the output is the score alone.</summary>
    private static T Opened<T>(string path, Func<string, IProgressSink, T> open)
    {
        if (!HubFolder.IsHubUrl(path))
        {
            return open(path, new NoProgress());
        }
        T? opened = default;
        ConsoleProgress.Run(sink => opened = open(path, sink), Console.Error);
        return opened!;
    }

    private static string Json(TextScore score)
    {
        var figures = score.ToJson();
        figures["peak_rss_mb"] = Stopclock.PeakMegabytes;
        return figures.ToJsonString();
    }
}
