using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class BaselinesTests
{
    private const int Contexts = 5;

    /// <summary>The plain form: zeros, or the mean, put in place of every value of every context.</summary>
    [Theory]
    [InlineData(HookSite.ResidPre)]
    [InlineData(HookSite.ResidMid)]
    [InlineData(HookSite.ResidPost)]
    [InlineData(HookSite.MlpOut)]
    [InlineData(HookSite.AttnOut)]
    public void Ablations_cost_what_splicing_them_into_every_context_costs(HookSite site)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        foreach (var (_, value) in model.Weights.Parameters().Where(p => p.Value.dim() > 1))
        {
            value.mul_(20); // far from uniform predictions
        }
        var hook = new HookPoint(1, site);
        manual_seed(3);
        var tokensBT = randint(32, [Contexts, 12], dtype: int64);
        var clean = CleanBatch.Run(model, tokensBT, [hook]);
        var x = clean.AtHook[hook];
        var (zero, mean) = (new SpliceScore(), new SpliceScore());
        clean.Score(
            model,
            [new(zero, hook, zeros_like(x)), new(mean, hook, x.mean([0, 1], keepdim: true).expand_as(x).contiguous())]
        );

        var baselines = new Baselines(hook, 16);
        baselines.AddToMean(x);
        if (!baselines.IsWholeStream)
        {
            clean.Score(model, [.. baselines.SplicesOf(clean)]);
        }
        int[][] contexts =
        [
            .. Enumerable
                .Range(0, Contexts)
                .Select(b => Array.ConvertAll(tokensBT[b].data<long>().ToArray(), token => (int)token)),
        ];
        var actual = baselines.CrossEntropies(model, contexts);

        actual.Zero.Should().BeApproximately(zero.CrossEntropy, 1e-5);
        actual.Mean.Should().BeApproximately(mean.CrossEntropy, 1e-5);
        Math.Abs(mean.CrossEntropy - zero.CrossEntropy).Should().BeGreaterThan(1e-3);
        baselines.IsWholeStream.Should().Be(site is not (HookSite.MlpOut or HookSite.AttnOut));
    }
}
