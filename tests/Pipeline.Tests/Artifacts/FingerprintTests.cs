using System.Text.Json.Nodes;
using FsCheck;
using FsCheck.Fluent;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Artifacts;

public class FingerprintTests
{
    private const string Config =
        """{"tokens":200000,"hooks":["a","b"],"rate":0.1,"nested":{"x":1,"y":null,"z":true}}""";

    [Theory]
    [InlineData("""{"nested":{"z":true,"y":null,"x":1},"rate":0.1,"hooks":["a","b"],"tokens":200000}""")]
    [InlineData(
        """{ "tokens": 2e5, "hooks": [ "\u0061", "b" ], "rate": 1e-1, "nested": {"x":1.0,"y":null,"z":true} }"""
    )]
    public void The_order_of_keys_and_the_spelling_of_values_do_not_matter(string config) =>
        Of(config).Should().Be(Of(Config)).And.MatchRegex("^[0-9a-f]{64}$");

    [Theory]
    [InlineData("""{"tokens":200001,"hooks":["a","b"],"rate":0.1,"nested":{"x":1,"y":null,"z":true}}""")]
    [InlineData("""{"tokens":200000,"hooks":["b","a"],"rate":0.1,"nested":{"x":1,"y":null,"z":true}}""")]
    [InlineData(
        """{"tokens":200000,"hooks":["a","b"],"rate":0.10000000000000002,"nested":{"x":1,"y":null,"z":true}}"""
    )]
    [InlineData("""{"tokens":200000,"hooks":["a","b"],"rate":0.1,"nested":{"x":"1","y":null,"z":true}}""")]
    [InlineData("""{"tokens":200000,"hooks":["a","b"],"rate":0.1,"nested":{"x":1,"z":true}}""")]
    [InlineData("""{"tokens":200000,"hooks":["a","b"],"rate":0.1,"nested":{"x":1,"y":false,"z":true}}""")]
    public void Every_value_matters(string config) => Of(config).Should().NotBe(Of(Config));

    [Fact]
    public void Schema_stage_and_inputs_matter_but_not_the_inputs_order()
    {
        var config = JsonNode.Parse(Config)!;
        string plain = Fingerprint.Of(1, "train", config, [("a", "1"), ("b", "2")]);

        Fingerprint.Of(1, "train", config, [("b", "2"), ("a", "1")]).Should().Be(plain);
        Fingerprint.Of(2, "train", config, [("a", "1"), ("b", "2")]).Should().NotBe(plain);
        Fingerprint.Of(1, "tune", config, [("a", "1"), ("b", "2")]).Should().NotBe(plain);
        Fingerprint.Of(1, "train", config, [("a", "2"), ("b", "1")]).Should().NotBe(plain);
        Fingerprint.Of(1, "train", config, [("a", "1")]).Should().NotBe(plain);
    }

    [Theory]
    [InlineData("""{"a":1,"b":[1,{"k":32}]}""", "b[1].k", "64", "32")]
    [InlineData("""{"a":1.0,"b":[1]}""", "b[1]", """{"k":64}""", "absent")]
    [InlineData("""{"b":[1,{"k":64}]}""", "a", "1", "absent")]
    [InlineData("""{"a":1,"b":[1,{"k":64}],"c":null}""", "c", "absent", "null")]
    [InlineData("""[]""", "", """{"a":1,"b":[1,{"k":64}]}""", "[]")]
    public void The_first_difference_is_named_with_both_values(string after, string path, string was, string now) =>
        JsonDifference
            .First(JsonNode.Parse("""{"a":1,"b":[1,{"k":64}]}"""), JsonNode.Parse(after))
            .Should()
            .Be(new JsonDifference(path, was, now));

    [Fact]
    public void Equal_values_have_no_difference() =>
        JsonDifference
            .First(JsonNode.Parse("""{"b":1e0,"a":[]}"""), JsonNode.Parse("""{"a":[],"b":1}"""))
            .Should()
            .BeNull();

    [Fact]
    public void A_config_built_in_memory_and_the_same_read_back_agree() =>
        Prop.ForAll<double, long, string>(
                (d, l, s) =>
                {
                    var config = new JsonObject
                    {
                        ["d"] = double.IsFinite(d) ? d : 0,
                        ["f"] = double.IsFinite(d) ? (float)l * 0.1f : 0,
                        ["l"] = l,
                        ["s"] = s,
                    };
                    return Of(config.ToJsonString()) == Fingerprint.Of(1, "s", config, []);
                }
            )
            .QuickCheckThrowOnFailure();

    private static string Of(string config) => Fingerprint.Of(1, "s", JsonNode.Parse(config)!, []);
}
