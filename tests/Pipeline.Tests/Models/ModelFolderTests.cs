using Pipeline.Shared;
using Pipeline.Shared.Models;

namespace Pipeline.Tests.Models;

public class ModelFolderTests
{
    [Fact]
    public void A_family_that_is_not_supported_is_refused_by_name_before_weights_are_looked_for()
    {
        using var folder = new TempFolder();
        File.WriteAllText(Path.Combine(folder.Path, "config.json"), """{"model_type": "mamba"}""");

        string message = ((Action)(() => ModelFolder.Open(folder.Path)))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message;

        message.Should().Contain("mamba");
        message.Should().ContainAll(ModelFamily.All.Select(family => family.ModelType));
    }

    [Theory]
    [InlineData("gemma", """ "use_bidirectional_attention": true """, "use_bidirectional_attention")]
    [InlineData("phi", """ "qk_layernorm": true """, "qk_layernorm")]
    [InlineData("llama", """ "rope_scaling": {"rope_type": "yarn", "factor": 4} """, "yarn")]
    [InlineData("qwen3", """ "use_sliding_window": true, "layer_types": ["linear_attention"] """, "linear_attention")]
    [InlineData("gpt_neox", """ "rotary_pct": 1.5 """, "rotary_pct")]
    [InlineData("mistral", """ "num_key_value_heads": 3 """, "num_key_value_heads")]
    public void What_a_family_can_say_and_this_model_cannot_do_is_refused(string family, string line, string named)
    {
        using var folder = new TempFolder();
        File.WriteAllText(
            Path.Combine(folder.Path, "config.json"),
            $$"""
            {"model_type": "{{family}}", "vocab_size": 8, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 4, "max_position_embeddings": 8, {{line}}}
            """
        );

        ((Action)(() => ModelFolder.Open(folder.Path)))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(named)
            .And.Contain("config.json");
    }
}
