using System.Text.Json.Nodes;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class JsonDiffTests
{
    [Theory]
    [InlineData("""{"a":1,"b":[1,{"c":0.001}]}""", """{"b":[1.0,{"c":1e-3}],"a":1}""")]
    [InlineData("null", "null")]
    public void Trees_of_the_same_values_do_not_differ(string left, string right) =>
        JsonDiff.FirstDifference(JsonNode.Parse(left), JsonNode.Parse(right)).Should().BeNull();

    [Theory]
    [InlineData("""{"a":1,"b":{"c":2}}""", """{"a":1,"b":{"c":3}}""", "b.c", "2", "3")]
    [InlineData("""{"a":[1,{"k":32}]}""", """{"a":[1,{"k":"32"}]}""", "a[1].k", "32", "\"32\"")]
    [InlineData("""{"a":[1,2]}""", """{"a":[1]}""", "a[1]", "2", "(absent)")]
    [InlineData("""{"a":[1]}""", """{"a":[1,2]}""", "a[1]", "(absent)", "2")]
    [InlineData("""{"a":null}""", """{}""", "a", "null", "(absent)")]
    [InlineData("""{}""", """{"a":null}""", "a", "(absent)", "null")]
    [InlineData("""{"a":{}}""", """{"a":[]}""", "a", "{}", "[]")]
    [InlineData("1", "null", "$", "1", "null")]
    public void Says_the_first_field_that_differs_and_both_values(
        string left,
        string right,
        string path,
        string leftValue,
        string rightValue
    ) =>
        JsonDiff
            .FirstDifference(JsonNode.Parse(left), JsonNode.Parse(right))
            .Should()
            .Be((path, leftValue, rightValue));

    [Fact]
    public void A_written_configuration_equals_its_parsed_text()
    {
        JsonObject written = ConfigurationJson.ToJson(Yaml.Pipeline(Yaml.Quickstart));

        JsonDiff.FirstDifference(written, JsonNode.Parse(written.ToJsonString())).Should().BeNull();
    }
}
