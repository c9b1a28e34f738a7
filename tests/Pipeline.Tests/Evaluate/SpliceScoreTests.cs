using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class SpliceScoreTests
{
    private static readonly HookPoint Hook = new(1, HookSite.ResidPost);

    [Fact]
    public void Identity_recovers_everything_and_zeros_recover_nothing()
    {
        var (clean, identity, zero) = Scores(x => x.clone());

        SpliceScore.Recovered(clean, identity.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(1, 1e-6);
        SpliceScore.Recovered(clean, zero.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(0, 1e-6);
        identity.Divergence.Should().BeApproximately(0, 1e-6);
        zero.Divergence.Should().BeGreaterThan(1e-4);
    }

    [Fact]
    public void A_splice_of_zeros_scores_as_the_zero_baseline()
    {
        var (clean, spliced, zero) = Scores(x => x * 0);

        SpliceScore.Recovered(clean, spliced.CrossEntropy, zero.CrossEntropy).Should().BeApproximately(0, 1e-6);
    }

    private static (double Clean, SpliceScore Spliced, SpliceScore Zero) Scores(Func<Tensor, Tensor> replacement)
    {
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
        for (int batch = 0; batch < 3; batch++)
        {
            var tokensBT = randint(32, [4, 12], dtype: int64);
            var clean = CleanBatch.Run(model, tokensBT, [Hook]);
            loss += clean.Loss;
            scored += clean.Scored;
            spliced.Add(model, clean, Hook, replacement);
            zero.Add(model, clean, Hook, x => zeros_like(x));
        }
        return (loss / scored, spliced, zero);
    }
}
