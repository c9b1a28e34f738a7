using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class SpliceScoreTests
{
    [Theory]
    [InlineData(HookSite.ResidPre)]
    [InlineData(HookSite.ResidMid)]
    [InlineData(HookSite.ResidPost)]
    public void Identity_recovers_everything_and_zeros_recover_nothing(HookSite site)
    {
        var (clean, identity, zero) = Scores(site, x => x.clone());

        SpliceScore.Recovered(clean, identity.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(1, 1e-6);
        SpliceScore.Recovered(clean, zero.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(0, 1e-6);
        identity.MeanDivergence.Should().BeApproximately(0, 1e-6);
        zero.MeanDivergence.Should().BeGreaterThan(1e-4);
    }

    [Fact]
    public void A_splice_of_zeros_scores_as_the_zero_baseline()
    {
        var (clean, spliced, zero) = Scores(HookSite.ResidPost, x => x * 0);

        SpliceScore.Recovered(clean, spliced.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(0, 1e-6);
    }

    private static (double Clean, SpliceScore Spliced, SpliceScore Zero) Scores(
        HookSite site,
        Func<Tensor, Tensor> replacement
    )
    {
        var hook = new HookPoint(1, site);
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        foreach (var (_, value) in model.Weights.Parameters().Where(p => p.Value.dim() > 1))
        {
            value.mul_(20); // far from uniform predictions
        }
        var spliced = new SpliceScore();
        var zero = new SpliceScore();
        double loss = 0;
        long scored = 0;
        using var random = new Generator(1, CPU);
        for (int batch = 0; batch < 3; batch++)
        {
            var tokensBT = randint(32, [4, 12], dtype: int64, generator: random);
            var clean = CleanBatch.Run(model, tokensBT, new TokenPlace[48], [hook]);
            var x = clean.AtHook[hook];
            double[] lossR = clean.Score(model, [new(spliced, hook, replacement(x)), new(zero, hook, zeros_like(x))]);
            loss += lossR.Sum();
            scored += lossR.Length;
        }
        return (loss / scored, spliced, zero);
    }
}
