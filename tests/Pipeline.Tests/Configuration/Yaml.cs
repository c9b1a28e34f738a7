using Pipeline.Shared;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

/// <summary>YAML for the tests, as short as its subject allows.</summary>
internal static class Yaml
{
    public const string Quickstart = """
        name: quickstart
        model: data/models/tiny     # a folder
        text: data/text/sample.jsonl
        harvest:
          hooks: [blocks.2.hook_resid_post, blocks.mid.hook_resid_post]
          tokens: 200k
          dtype: float16
        train:
          tokens: 2M
          saes:
            - {architecture: topk, expansion: 8, k: 32}
            - architecture: TopK
              features: 4096
              k: 16
              learningRate: 1e-3
              auxK: 64
        evaluate:
          tokens: 20k
        report: {features: 64}
        """;

    public static PipelineConfig Pipeline(string yaml, params string[] overrides) =>
        YamlConfiguration.Parse<PipelineConfig>(yaml, "a.yaml", overrides);

    /// <summary>Reads the quickstart with settings on top.</summary>
    public static PipelineConfig With(params string[] overrides) => Pipeline(Quickstart, overrides);

    /// <summary>The message that refuses the quickstart with settings on top.</summary>
    public static string RefusalWith(params string[] overrides) => Refusal(() => With(overrides));

    public static string Refusal(string yaml) => Refusal(() => Pipeline(yaml));

    public static string Refusal(Action reading) => Assert.Throws<ConfigurationException>(reading).Message;
}
