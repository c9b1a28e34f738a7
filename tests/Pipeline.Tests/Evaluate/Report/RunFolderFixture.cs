using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Tests.Evaluate.Report;

/// <summary>A finished run with two hooks and two autoencoders each, in a folder of its own; numbers invented.</summary>
public sealed class RunFolderFixture : IDisposable
{
    public const string EarlyHook = "blocks.2.hook_resid_post";
    public const string LateHook = "blocks.10.hook_resid_post";
    public const string TopK = "topk-1024-k32";
    public const string Gated = "gated-1024-l0.1";

    public string Root { get; } = Directory.CreateTempSubdirectory("report-").FullName;

    public static IReadOnlyList<(string Hook, string Sae)> Saes { get; } =
    [(EarlyHook, TopK), (EarlyHook, Gated), (LateHook, TopK), (LateHook, Gated)];

    public RunFolderFixture()
    {
        Write("run.json", Run());
        Write("harvest/manifest.json", """{"config":{"context":256},"results":{"tokens":200000,"documents":812}}""");
        for (int i = 0; i < Saes.Count; i++)
        {
            (string hook, string sae) = Saes[i];
            Write($"train/{hook}/{sae}/cfg.json", Config(hook, sae));
            Write($"train/{hook}/{sae}/metrics.jsonl", Curve(i));
            Write($"evaluate/{hook}/{sae}/metrics.json", sae == TopK ? WithDetails(Metrics(i)) : Metrics(i));
        }
        WriteFeatures(EarlyHook, TopK, FeatureFolder.Files(1024, describeEach: 10, hostile: 420));
    }

    /// <summary>Gives an SAE described latents, in place of any it has.</summary>
    internal void WriteFeatures(string hook, string sae, IEnumerable<(string Name, string Content)> files)
    {
        string folder = $"evaluate/{hook}/{sae}/features";
        if (Directory.Exists(PathOf(folder)))
        {
            Directory.Delete(PathOf(folder), recursive: true);
        }
        foreach ((string name, string content) in files)
        {
            Write($"{folder}/{name}", content);
        }
    }

    public string PathOf(string file) => Path.Combine(Root, file);

    public void Write(string file, string content)
    {
        string path = PathOf(file);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        using StreamWriter writer = new(path);
        writer.Write(content);
    }

    public void Write(string file, JsonNode content) => Write(file, content.ToJsonString());

    /// <summary>Reads a JSON file, changes it and writes it back.</summary>
    public void Edit(string file, Action<JsonObject> change)
    {
        JsonObject content = JsonNode.Parse(File.ReadAllText(PathOf(file)))!.AsObject();
        change(content);
        Write(file, content);
    }

    public void Dispose() => Directory.Delete(Root, recursive: true);

    private static JsonObject Run() =>
        new()
        {
            ["name"] = "quickstart",
            ["seed"] = 42,
            ["model"] = new JsonObject { ["path"] = "/models/gpt2", ["id"] = "openai-community/gpt2" },
            ["text"] = "hf://datasets/fever/wiki_pages",
            ["started"] = "2025-06-03T09:12:44Z",
            ["finished"] = "2025-06-03T10:02:19Z",
            ["versions"] = new JsonObject { ["pipeline"] = "0.1.0", ["TorchSharp"] = "0.107.0" },
            ["machine"] = new JsonObject { ["cpu"] = "Invented 9000", ["cores"] = 16 },
            ["stages"] = new JsonArray(
                new JsonObject
                {
                    ["name"] = "harvest",
                    ["seconds"] = 412.5,
                    ["status"] = "done",
                },
                new JsonObject
                {
                    ["name"] = "train",
                    ["seconds"] = 2391.2,
                    ["status"] = "done",
                },
                new JsonObject
                {
                    ["name"] = "report",
                    ["seconds"] = null,
                    ["status"] = "running",
                }
            ),
            ["pipeline"] = new JsonObject { ["harvest"] = new JsonObject { ["dtype"] = "float16" } },
        };

    private static JsonObject Config(string hook, string sae)
    {
        JsonObject config = new()
        {
            ["architecture"] = sae.Split('-')[0],
            ["d_in"] = 768,
            ["d_sae"] = 1024,
            ["metadata"] = new JsonObject { ["hook_name"] = hook },
        };
        if (sae == TopK)
        {
            config["k"] = 32;
        }
        return config;
    }

    private static string Curve(int index) =>
        string.Concat(
            Enumerable
                .Range(1, 50)
                .Select(step =>
                    JsonSerializer.Serialize(
                        new
                        {
                            step,
                            tokens = step * 2048,
                            loss = (300 * (index + 1) * Math.Exp(-step / 10.0)) + 40,
                            fvu = Math.Exp(-step / 10.0) + (0.05 * (index + 1)),
                        }
                    ) + "\n"
                )
        );

    /// <summary>What evaluations of earlier versions did not state.</summary>
    private static JsonObject WithDetails(JsonObject metrics)
    {
        JsonNode Interval(double around) => new JsonArray(around - 0.01, around + 0.01);
        double recovered = metrics["loss_recovered"]!.GetValue<double>();
        metrics["intervals"] = new JsonObject
        {
            ["confidence"] = 0.95,
            ["resamples"] = 1000,
            ["documents"] = 80,
            ["loss_recovered"] = Interval(recovered),
            ["fvu"] = Interval(metrics["fvu"]!.GetValue<double>()),
        };
        JsonObject Baseline(string size, double lossRecovered) =>
            new()
            {
                [size] = 32,
                ["fvu"] = 1 - lossRecovered,
                ["loss_recovered"] = lossRecovered,
                ["intervals"] = new JsonObject { ["loss_recovered"] = Interval(lossRecovered) },
            };
        metrics["baselines"] = new JsonObject
        {
            ["fitted_rows"] = 8192,
            ["pca"] = Baseline("directions", 0.8125),
            ["random"] = Baseline("k", 0.2375),
        };
        metrics["all_hooks"] = new JsonObject
        {
            ["hooks"] = new JsonArray(EarlyHook, LateHook),
            ["loss_recovered"] = 0.9125,
            ["intervals"] = new JsonObject { ["loss_recovered"] = null },
        };
        metrics["direct_effect"] = new JsonObject
        {
            ["latents"] = 32,
            ["top_token_drop"] = 0.4125,
            ["predicted_top_token_drop"] = 0.5125,
            ["random_token_drop"] = 0.0125,
            ["correlation"] = 0.7125,
        };
        JsonObject Group(int tokens, params (string Key, JsonNode Value)[] names)
        {
            JsonObject group = new(names.Select(n => KeyValuePair.Create(n.Key, (JsonNode?)n.Value)));
            group["tokens"] = tokens;
            foreach (string key in new[] { "l0", "fvu", "ce_clean", "ce_spliced", "loss_recovered" })
            {
                group[key] = metrics[key]!.DeepClone();
            }
            return group;
        }
        metrics["by_class"] = new JsonArray(
            Group(80, ("class", "bos")),
            Group(12_000, ("class", "word-start")),
            Group(4_000, ("class", "word-continuation")),
            Group(3_000, ("class", "punctuation"))
        );
        metrics["by_position"] = new JsonArray(
            Group(80, ("from", 0), ("to", 0)),
            Group(4_000, ("from", 1), ("to", 63)),
            Group(12_000, ("from", 64), ("to", 255))
        );
        return metrics;
    }

    private static JsonObject Metrics(int index) =>
        new()
        {
            ["tokens"] = 20_000,
            ["l0"] = 32 + (13 * index),
            ["l1"] = 41.2,
            ["fvu"] = 0.0511 + (0.05 * index),
            ["explained_variance"] = 0.9489 - (0.05 * index),
            ["nmse_to_zero"] = 0.0171,
            ["mse"] = 0.0231,
            ["cosine"] = 0.9713,
            ["l2_ratio"] = 0.9644,
            ["relative_bias"] = 0.9871,
            ["ce_clean"] = 3.4127,
            ["ce_spliced"] = 3.5127 + (0.1 * index),
            ["ce_zero"] = 13.253,
            ["ce_mean"] = 7.8814,
            ["loss_recovered"] = Math.Round(0.9898 - (0.0102 * index), 4),
            ["loss_recovered_mean"] = 0.9776,
            ["ce_delta"] = 0.1 + (0.1 * index),
            ["kl"] = 0.1042,
            ["dead_fraction"] = 0.0125,
            ["density_histogram"] = new JsonObject
            {
                ["edges"] = new JsonArray(-5, -4, -3, -2, -1, 0),
                ["counts"] = new JsonArray(11, 203, 640, 157, 0),
            },
            ["definitions"] = new JsonObject { ["l0"] = "Mean count of latents above zero, per token." },
        };
}
