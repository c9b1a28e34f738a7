using System.Text.Json.Nodes;
using Pipeline.Shared.Text;
using Pipeline.Tests.Pipelines;
using Pipeline.Tests.Text;

namespace Pipeline.Tests.Hub;

/// <summary>A pipeline whose model or text is a name on the hub.</summary>
public sealed class HubPipelineTests(TinyRun tiny) : IClassFixture<TinyRun>
{
    [Fact]
    public async Task A_model_on_the_hub_runs_through_the_pipeline_and_then_offline()
    {
        await using var test = await HubTest.StartAsync();
        using var folder = new TempFolder();
        foreach (
            string name in new[]
            {
                "config.json",
                "model.safetensors",
                "vocab.json",
                "merges.txt",
                "tokenizer_config.json",
            }
        )
        {
            test.Server.Add(name, File.ReadAllBytes(Path.Combine(tiny.Model, name)));
        }
        string[] arguments =
        [
            "run",
            tiny.Pipeline,
            "--threads",
            "1",
            "--set",
            $"model=hf://{HubServer.Repository}@{HubServer.Commit}",
            "--out",
        ];

        var local = SaeProcess.Run("run", tiny.Pipeline, "--threads", "1", "--out", folder["local"]);
        var fetched = Run(test, offline: null, [.. arguments, folder["fetched"]]);
        var offline = Run(test, offline: "1", [.. arguments, folder["offline"]]);

        local.ExitCode.Should().Be(0, local.Error);
        fetched.ExitCode.Should().Be(0, fetched.Error);
        offline.ExitCode.Should().Be(0, offline.Error);
        // Shards and SAEs name the model they come from, so their bytes differ; the figures do not.
        string metrics = Path.Combine(
            "evaluate",
            "blocks.1.hook_resid_post",
            "topk-64-k4-deadafter1k-lr0.001",
            "metrics.json"
        );
        foreach (string run in new[] { "fetched", "offline" })
        {
            File.ReadAllText(Path.Combine(folder[run], metrics))
                .Should()
                .Be(File.ReadAllText(Path.Combine(folder["local"], metrics)));
        }
        ArtifactHashes.Of(folder["offline"]).Should().Equal(ArtifactHashes.Of(folder["fetched"]));
        test.ShouldBeSound(fetched.Output + fetched.Error + offline.Output + offline.Error);
    }

    [Fact]
    public async Task A_folder_of_a_repository_can_be_a_model_of_llama2c()
    {
        await using var test = await HubTest.StartAsync();
        string model = TestData.Require("data", "models", "stories260k");
        foreach (string name in new[] { "stories260K.bin", "tok512.bin" })
        {
            test.Server.Add($"stories260K/{name}", File.ReadAllBytes(Path.Combine(model, name)));
        }
        test.Server.Add("stories15M.bin", HubTest.Bytes(100));

        var score = Run(
            test,
            offline: null,
            ["score", $"hf://{HubServer.Repository}/stories260K", tiny.Text, "--tokens", "600", "--json"]
        );

        score.ExitCode.Should().Be(0, score.Error);
        score.Output.Should().Contain("\"ce\"");
        test.Server.Bodies.Should().HaveCount(2);
        test.ShouldBeSound(score.Output + score.Error);
    }

    [Fact]
    public async Task A_configuration_of_a_dataset_on_the_hub_is_the_text_of_a_run()
    {
        await using var test = await HubTest.StartAsync();
        using var folder = new TempFolder();
        var documents = TextSources.Open(tiny.Text, "test").Read().ToList();
        for (int part = 0; part < 2; part++)
        {
            string name = $"train-0000{part}-of-00002.parquet";
            TextFiles.WriteParquet(folder[name], [.. documents.Skip(part * 30).Take(30)]);
            test.Server.Add($"20231101.en/{name}", File.ReadAllBytes(folder[name]));
        }
        test.Server.Add("20231101.de/train-00000-of-00001.parquet", File.ReadAllBytes(tiny.Text));
        test.Server.Add("README.md", "wikipedia");
        string[] arguments = ["run", tiny.Pipeline, "--threads", "1", "--only", "harvest", "--out"];

        var local = SaeProcess.Run([.. arguments, folder["local"]]);
        var fetched = Run(
            test,
            offline: null,
            [
                .. arguments,
                folder["fetched"],
                "--set",
                $"text=hf://datasets/{HubServer.Repository}@{HubServer.Commit}/20231101.en",
            ]
        );

        local.ExitCode.Should().Be(0, local.Error);
        fetched.ExitCode.Should().Be(0, fetched.Error);
        documents.Should().HaveCount(60);
        ArtifactHashes.Of(folder["fetched"]).Should().Equal(ArtifactHashes.Of(folder["local"])).And.NotBeEmpty();
        test.Server.Requests.Should()
            .NotContain(request => request.Target.Contains("/resolve/") && !request.Target.Contains(".en/"));
        HubTest.ShouldNotHold(folder.Path, HubTest.TokenCanary);
    }

    [Fact]
    public async Task A_text_on_the_hub_is_what_its_name_asks_for_whatever_else_of_its_folder_is_in_the_cache()
    {
        await using var test = await HubTest.StartAsync();
        string[] lines = await File.ReadAllLinesAsync(tiny.Text, TestContext.Current.CancellationToken);
        test.Server.Add("en/a-0.jsonl", string.Join('\n', lines[..10]));
        test.Server.Add("en/a-1.jsonl", string.Join('\n', lines[10..20]));
        test.Server.Add("en/b-0.jsonl", string.Join('\n', lines[20..]));
        string folder = $"hf://datasets/{HubServer.Repository}@{HubServer.Commit}/en";

        var alone = Run(test, offline: null, ["score", tiny.Model, $"{folder}/a-*.jsonl", "--json"]);
        var all = Run(test, offline: null, ["score", tiny.Model, folder, "--json"]);
        var beside = Run(test, offline: null, ["score", tiny.Model, $"{folder}/a-*.jsonl", "--json"]);

        long Tokens(SaeProcess.Result result)
        {
            result.ExitCode.Should().Be(0, result.Error);
            return JsonNode.Parse(result.Output)!["tokens"]!.GetValue<long>();
        }
        Tokens(all).Should().BeGreaterThan(2 * Tokens(alone));
        Tokens(beside).Should().Be(Tokens(alone));
    }

    [Fact]
    public async Task A_model_can_be_pretrained_on_a_text_of_the_hub()
    {
        await using var test = await HubTest.StartAsync();
        using var folder = new TempFolder();
        test.Server.Add("en/text.jsonl", File.ReadAllBytes(tiny.Text));
        string config = folder.Write(
            "pretrain.yaml",
            $$"""
            name: tiny
            text: hf://datasets/{{HubServer.Repository}}@{{HubServer.Commit}}/en
            out: {{folder["model"]}}
            threads: 1
            tokens: 7680
            batch: 4
            learningRate: 0.01
            checkpointEvery: 10
            heldOut: 0.3
            tokenizer: {vocabulary: 300, bytes: 100000}
            model: {width: 32, layers: 2, heads: 4, kvHeads: 2, mlp: 48, context: 32}
            """
        );

        var result = Run(test, offline: null, ["pretrain", config]);

        result.ExitCode.Should().Be(0, result.Error);
        File.ReadAllText(folder["model", "vocab.json"])
            .Should()
            .Be(File.ReadAllText(Path.Combine(tiny.Model, "vocab.json")));
        result.Output.Should().Contain($"fetch {HubServer.Repository}");
    }

    private static SaeProcess.Result Run(HubTest test, string? offline, string[] arguments) =>
        SaeProcess.Finish(
            SaeProcess.Start(
                new Dictionary<string, string?>
                {
                    ["HF_ENDPOINT"] = test.Server.Endpoint.AbsoluteUri,
                    ["HF_HUB_CACHE"] = test.Cache,
                    ["HF_TOKEN"] = HubTest.TokenCanary,
                    ["HF_HUB_OFFLINE"] = offline,
                    ["NO_PROXY"] = "127.0.0.1",
                },
                arguments
            )
        );
}
