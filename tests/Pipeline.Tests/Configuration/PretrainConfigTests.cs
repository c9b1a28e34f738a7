using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class PretrainConfigTests
{
    private static PretrainConfig Read(params string[] overrides) =>
        YamlConfiguration.Parse<PretrainConfig>(
            "{name: tiny, text: t, out: o, tokens: 1M, model: {width: 128}}",
            "pretrain.yaml",
            overrides
        );

    [Fact]
    public void Defaults_make_a_small_llama()
    {
        PretrainConfig config = Read();

        config.Model.Should().Be(new LanguageModelConfig { Width = 128 });
        config.Tokenizer.Vocabulary.Should().Be(4096);
        config.Dtype.Should().Be(WeightDtype.Float16);
    }

    [Theory]
    [InlineData("model.width=130", "model.width (--set model.width=130): found 130, expected a multiple of heads")]
    [InlineData("model.width=8", "expected an even number for each head")]
    [InlineData("model.kvHeads=3", "expected a divisor of heads, which is 8")]
    [InlineData("beta1=1", "expected at least 0 and less than 1")]
    [InlineData("out=", "expected text")]
    public void Refuses_what_no_model_can_be_made_of(string setting, string reason) =>
        Yaml.Refusal(() => Read(setting)).Should().Contain(reason);
}
