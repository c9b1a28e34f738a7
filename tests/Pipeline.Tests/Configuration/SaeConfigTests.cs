using Pipeline.Shared;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class SaeConfigTests
{
    private static readonly SaeConfig Plain = new() { Architecture = Architecture.TopK, K = 32 };

    [Fact]
    public void Identifier_holds_architecture_features_and_k() => Plain.Identifier(128).Should().Be("topk-1024-k32");

    [Fact]
    public void Identifier_holds_what_differs_from_the_defaults_and_nothing_else()
    {
        SaeConfig sae = Plain with
        {
            Seed = 7,
            LearningRate = 0.001,
            DeadAfter = new(1_000_000),
            AuxK = 64,
            Warmup = 0.05,
        };

        sae.Identifier(128).Should().Be("topk-1024-k32-deadafter1M-lr0.001-seed7");
    }

    [Fact]
    public void Small_learning_rates_are_spelled_in_lower_case() =>
        (Plain with { LearningRate = 1e-5 }).Identifier(128).Should().Be("topk-1024-k32-lr1e-05");

    [Fact]
    public void A_name_stands_for_the_identifier() =>
        (Plain with { Name = "mine" }).Identifier(128).Should().Be("mine");

    [Fact]
    public void Features_go_before_expansion() => (Plain with { Features = 100 }).FeaturesFor(128).Should().Be(100);

    [Fact]
    public void Learning_rate_follows_the_number_of_features()
    {
        (Plain with { Features = 16_384 }).LearningRateFor(1).Should().Be(2e-4);
        (Plain with { Features = 4_096 }).LearningRateFor(1).Should().BeApproximately(4e-4, 1e-12);
    }

    [Fact]
    public void Auxiliary_latents_are_half_the_width_but_no_more_than_there_are()
    {
        Plain.AuxKFor(128).Should().Be(64);
        (Plain with { Features = 10 }).AuxKFor(128).Should().Be(10);
    }

    [Fact]
    public void More_active_features_than_there_are_is_a_fault_once_the_width_is_known()
    {
        Plain.Validate(4, "train.saes[0]").Should().BeEmpty();
        Plain
            .Validate(3, "train.saes[0]")
            .Should()
            .ContainSingle()
            .Which.ToString()
            .Should()
            .Be("train.saes[0].k: found 32, expected at most the 24 features. Lower it or raise the features.");
    }

    [Fact]
    public void More_features_than_an_int_counts_is_a_fault_not_an_overflow()
    {
        SaeConfig sae = Plain with { Expansion = int.MaxValue };

        sae.Validate(768, "train.saes[0]").Should().ContainSingle().Which.Where.Should().Be("train.saes[0].expansion");
        FluentActions.Invoking(() => sae.FeaturesFor(768)).Should().Throw<ConfigurationException>();
    }

    [Fact]
    public void Autoencoders_that_would_share_a_folder_are_refused()
    {
        var train = new TrainConfig
        {
            Tokens = new(1),
            Saes = [Plain, Plain with { Expansion = 4 }, Plain with { Features = 1024 }],
        };

        train.Validate("train").Should().BeEmpty();
        train.Validate(64, "train").Should().BeEmpty();
        train.Validate(128, "train").Should().ContainSingle().Which.Where.Should().Be("train.saes[2]");
    }

    [Theory]
    [InlineData("train.saes=[{architecture: topk, k: 1}, {architecture: topk, k: 1}]")]
    [InlineData("train.saes=[{architecture: topk, k: 1, name: a}, {architecture: topk, k: 2, name: A}]")]
    public void Autoencoders_given_twice_are_refused_when_the_file_is_read(string setting) =>
        Yaml.RefusalWith(setting).Should().Contain("train.saes[1] (").And.Contain("as saes[0]");

    [Theory]
    [InlineData("{architecture: topk}", "train.saes[1].k", "which topk needs")]
    [InlineData("{architecture: gated}", "train.saes[1].l1", "which gated needs")]
    [InlineData("{architecture: jumprelu}", "train.saes[1].l0", "which jumprelu needs")]
    [InlineData("{architecture: standard, l1: 1, k: 4}", "train.saes[1].k", "standard does not use it")]
    [InlineData("{architecture: batchtopk, k: 4, l1: 1}", "train.saes[1].l1", "batchtopk does not use it")]
    [InlineData("{architecture: standard, l1: -1}", "train.saes[1].l1", "more than 0")]
    [InlineData(
        "{architecture: batchtopk, k: 4, dead: resample}",
        "train.saes[1].dead",
        "auxk or none, all that batchtopk"
    )]
    [InlineData("{architecture: gated, l1: 1, dead: auxk}", "train.saes[1].dead", "resample or none, all that gated")]
    [InlineData(
        "{architecture: jumprelu, l0: 1, dead: resample}",
        "train.saes[1].dead",
        "expected none, all that jumprelu"
    )]
    [InlineData("{architecture: topk, k: 4, dead: none, auxK: 8}", "train.saes[1].auxK", "dead none does not use it")]
    [InlineData("{architecture: gated, l1: 1, resamplings: 2}", "train.saes[1].resamplings", "no dead does not use it")]
    [InlineData(
        "{architecture: topk, k: 4, schedule: cosine, decay: 0.1}",
        "train.saes[1].decay",
        "cosine does not use it"
    )]
    [InlineData("{architecture: topk, k: 4, bandwidth: 0.1}", "train.saes[1].bandwidth", "topk does not use it")]
    [InlineData(
        "{architecture: batchtopk, k: 4, multiTopK: 0.125}",
        "train.saes[1].multiTopK",
        "batchtopk does not use it"
    )]
    [InlineData(
        "{architecture: topk, k: 4, features: 64, kFrom: 65}",
        "train.saes[1].kFrom",
        "at most the 64 features"
    )]
    [InlineData("{architecture: matryoshka-batchtopk, k: 4, groups: [0.5, 0.4]}", "train.saes[1].groups", "sum to 1")]
    public void What_an_architecture_needs_or_does_not_use_is_told(string sae, string where, string why) =>
        Yaml.RefusalWith($"train.saes=[{{architecture: topk, k: 2}}, {sae}]").Should().Contain(where).And.Contain(why);

    [Theory]
    [InlineData("standard-april", "standard-april-1024-l1-0.5")]
    [InlineData("gated", "gated-1024-l1-0.5")]
    public void Identifiers_hold_the_penalty_where_no_k_is(string architecture, string expected)
    {
        var kind = architecture == "gated" ? Architecture.Gated : Architecture.StandardApril;
        new SaeConfig { Architecture = kind, L1 = 0.5 }
            .Identifier(128)
            .Should()
            .Be(expected);
    }

    [Fact]
    public void Groups_take_their_shares_and_the_last_what_is_left()
    {
        var sae = new SaeConfig
        {
            Architecture = Architecture.MatryoshkaBatchTopK,
            K = 4,
            Features = 100,
        };
        sae.GroupSizesFor(1).Should().Equal(3, 6, 12, 25, 54);
    }
}
