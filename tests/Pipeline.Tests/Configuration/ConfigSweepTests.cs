using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Configuration;

public sealed class ConfigSweepTests
{
    [Fact]
    public void Lists_stand_for_every_combination() =>
        Identifiers("{architecture: topk, expansion: [4, 8], k: [16, 32], seed: [1, 2]}")
            .Should()
            .Equal(
                "topk-256-k16-seed1",
                "topk-256-k16-seed2",
                "topk-256-k32-seed1",
                "topk-256-k32-seed2",
                "topk-512-k16-seed1",
                "topk-512-k16-seed2",
                "topk-512-k32-seed1",
                "topk-512-k32-seed2"
            );

    [Fact]
    public void A_key_that_an_architecture_does_not_use_is_left_out_of_its_combinations() =>
        Identifiers("{architecture: [standard, topk], k: [8, 16], l1: [1, 2]}")
            .Should()
            .Equal("standard-512-l1-1", "standard-512-l1-2", "topk-512-k8", "topk-512-k16");

    [Fact]
    public void Several_sweeps_and_single_autoencoders_stand_side_by_side()
    {
        var config = Yaml.With(
            "train.saes=[{architecture: topk, k: 1}]",
            "train.sweep=[{architecture: gated, l1: 2, dead: [none, resample]}, {architecture: topk, k: [2, 3]}]"
        );

        config
            .Train.Saes.Select(sae => sae.Identifier(64))
            .Should()
            .Equal("topk-512-k1", "gated-512-l1-2", "gated-512-l1-2-dead-resample", "topk-512-k2", "topk-512-k3");
    }

    [Fact]
    public void A_setting_that_is_a_list_itself_is_swept_by_a_list_of_lists() =>
        Yaml.With("train.sweep={architecture: matryoshka-batchtopk, k: 2, groups: [[0.5, 0.5], [0.25, 0.75]]}")
            .Train.Saes.Skip(2)
            .Select(sae => sae.Groups!.Count)
            .Should()
            .Equal(2, 2);

    [Theory]
    [InlineData("{architecture: standard, l1: 1, k: [1, 2]}", "train.sweep.k", "no combination uses it")]
    [InlineData("{architecture: topk, k: []}", "train.sweep.k", "at least one value")]
    [InlineData("[1, 2]", "train.sweep", "a section whose values may be lists")]
    [InlineData("{architecture: topk, k: [4, nonsense]}", "train.saes[3].k", "a whole number")]
    [InlineData("{architecture: [topk, nonsense], k: 4}", "train.saes[3].architecture", "one of topk")]
    public void What_cannot_be_expanded_or_bound_is_told(string sweep, string where, string why) =>
        Yaml.RefusalWith($"train.sweep={sweep}").Should().Contain(where).And.Contain(why);

    [Fact]
    public void A_combination_that_is_there_twice_is_there_once() =>
        Identifiers("{architecture: topk, k: [4, 4]}").Should().Equal("topk-512-k4");

    [Fact]
    public void Too_many_combinations_are_refused_before_they_are_made()
    {
        string seeds = string.Join(", ", Enumerable.Range(0, 100));

        Yaml.RefusalWith($"train.sweep={{architecture: topk, k: [{seeds}], seed: [{seeds}]}}")
            .Should()
            .Contain("at most 4096 combinations");
    }

    [Fact]
    public void Without_a_sweep_or_autoencoders_there_is_nothing_to_train() =>
        Yaml.RefusalWith("train.saes=[]").Should().Contain("train.saes");

    private static IEnumerable<string> Identifiers(string sweep) =>
        Yaml.With($"train.sweep={sweep}").Train.Saes.Skip(2).Select(sae => sae.Identifier(64));
}
