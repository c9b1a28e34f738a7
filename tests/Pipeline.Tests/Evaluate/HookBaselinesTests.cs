using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class HookBaselinesTests
{
    /// <summary>The plain form: the singular vectors of all rows at once, the mean taken off.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(12)]
    public void PCA_reconstructs_as_the_first_singular_vectors_do(int directions)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(4, CPU);
        var xND = Rows(500, random);
        using var components = PrincipalComponents.Fit(xND.split(64), () => { });
        var newRD = Rows(20, random);

        var actualRD = components.Reconstruct(newRD, directions);

        var meanD = xND.to(float64).mean([0]);
        var (_, _, VhDD) = linalg.svd(xND.to(float64) - meanD, fullMatrices: false);
        var keptKD = VhDD.narrow(0, 0, directions);
        var expectedRD = (newRD.to(float64) - meanD).matmul(keptKD.t()).matmul(keptKD) + meanD;
        (actualRD.to(float64) - expectedRD).abs().max().item<double>().Should().BeLessThan(1e-4);
        components.Rows.Should().Be(500);
        if (directions == 12)
        {
            (actualRD - newRD).abs().max().item<float>().Should().BeLessThan(1e-4f, "all directions leave nothing out");
        }
    }

    [Fact]
    public void A_random_dictionary_is_unit_rows_about_the_mean_the_same_for_the_same_seed_and_worse_than_PCA()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var random = new Generator(4, CPU);
        var xND = Rows(2000, random);
        var hook = new HookPoint(1, HookSite.ResidPost);
        using var one = new HookBaselines(hook, PrincipalComponents.Fit([xND], () => { }), 7);
        using var same = new HookBaselines(hook, PrincipalComponents.Fit([xND], () => { }), 7);
        using var other = new HookBaselines(hook, PrincipalComponents.Fit([xND], () => { }), 8);

        var byOne = one.Random(96, 4, CPU).Reconstruct(xND);

        (byOne - same.Random(96, 4, CPU).Reconstruct(xND)).abs().max().item<float>().Should().Be(0);
        (byOne - other.Random(96, 4, CPU).Reconstruct(xND)).abs().max().item<float>().Should().BeGreaterThan(0.1f);
        double Error(Tensor reconstruction) => (xND - reconstruction).square().sum().item<float>();
        Error(one.Pca(4).Reconstruct(xND)).Should().BeLessThan(Error(byOne));
        var atMean = one.Random(96, 4, CPU).Reconstruct(xND.mean([0], keepdim: true));
        (atMean - xND.mean([0])).abs().max().item<float>().Should().BeLessThan(1e-4f);
    }

    [Fact]
    public void Equal_sizes_share_one_baseline_and_none_is_larger_than_what_there_is()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(4, CPU);
        using var baselines = new HookBaselines(
            new HookPoint(0, HookSite.MlpOut),
            PrincipalComponents.Fit([Rows(100, random)], () => { }),
            1
        );

        baselines.Pca(3).Should().BeSameAs(baselines.Pca(3)).And.NotBeSameAs(baselines.Pca(4));
        baselines.Random(20, 3, CPU).Should().BeSameAs(baselines.Random(20, 3, CPU));
        baselines.Random(21, 3, CPU).Should().NotBeSameAs(baselines.Random(20, 3, CPU));
        baselines.Pca(500).Size.Should().Be(12);
        baselines.Random(20, 500, CPU).Size.Should().Be(20);
        baselines.All.Should().HaveCount(6);
    }

    /// <summary>Of twelve dimensions with standard deviations 12 to 1, far from the origin.</summary>
    private static Tensor Rows(int rows, Generator random) =>
        (randn(rows, 12, generator: random) * arange(12, 0, -1)) + 30;
}
