using System.Text.Json.Nodes;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class ConfigurationJsonTests
{
    [Fact]
    public void Writes_keys_in_declaration_order_enums_as_spelled_and_counts_as_numbers() =>
        ConfigurationJson
            .ToJson(Yaml.With("harvest.bos=each_context").Harvest)
            .ToJsonString()
            .Should()
            .Be(
                """
                {"hooks":["blocks.2.hook_resid_post","blocks.mid.hook_resid_post"],"context":256,"tokens":200000,
                "dtype":"float16","batch":16,"bos":"each-context","separator":false,"heldOut":0.1,"shardTokens":64000}
                """.Replace("\n", "", StringComparison.Ordinal)
            );

    [Fact]
    public void Writes_nested_records_and_nothing_computed()
    {
        JsonObject json = ConfigurationJson.ToJson(Yaml.Pipeline(Yaml.Quickstart));

        json["threads"].Should().BeNull();
        json.ContainsKey("threads").Should().BeTrue();
        JsonObject sae = json["train"]!["saes"]![0]!.AsObject();
        sae.Select(field => field.Key)
            .Should()
            .Equal(
                "architecture",
                "name",
                "hooks",
                "transcoder",
                "skip",
                "expansion",
                "features",
                "k",
                "kFrom",
                "kAnneal",
                "multiTopK",
                "scale",
                "dead",
                "auxCoefficient",
                "auxK",
                "deadAfter",
                "learningRate",
                "schedule",
                "warmup",
                "decay",
                "gradientClip",
                "finetune",
                "seed"
            );
        sae["architecture"]!.GetValue<string>().Should().Be("topk");
    }

    [Fact]
    public void What_it_writes_reads_back_as_the_same_configuration()
    {
        JsonObject json = ConfigurationJson.ToJson(Yaml.Pipeline(Yaml.Quickstart));

        // JSON is YAML.
        JsonObject again = ConfigurationJson.ToJson(Yaml.Pipeline(json.ToJsonString()));

        Shared.Artifacts.JsonDifference.First(json, again).Should().BeNull();
    }
}
