using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class AblationsTests
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
        using var random = new Generator(3, CPU);
        var tokensBT = randint(32, [Contexts, 12], dtype: int64, generator: random);
        var contexts = Enumerable
            .Range(0, Contexts)
            .Select(b => Array.ConvertAll(tokensBT[b].data<long>().ToArray(), token => (int)token))
            .Select(tokens => new PackedContext(tokens, new int[12], [.. Enumerable.Range(0, 12)]))
            .ToList();
        TokenPlace[] places = [.. Enumerable.Range(0, Contexts * 12).Select(i => new TokenPlace(i % 3, 0, i / 12))];
        var clean = CleanBatch.Run(model, tokensBT, places, [hook]);
        var x = clean.AtHook[hook];
        var (zero, mean) = (new SpliceScore(), new SpliceScore());
        clean.Score(
            model,
            [new(zero, hook, zeros_like(x)), new(mean, hook, x.mean([0, 1], keepdim: true).expand_as(x).contiguous())]
        );

        var ablations = new Ablations(hook, 16);
        ablations.AddToMean(x);
        if (ablations.IsWholeStream)
        {
            ablations.ScoreStream(model, contexts, places);
        }
        else
        {
            ablations.SplicesOf(clean).ToList().ForEach(splice => clean.ScoreLoss(model, splice));
        }

        ablations.Zero.CrossEntropy.Should().BeApproximately(zero.CrossEntropy, 1e-5);
        ablations.Mean.CrossEntropy.Should().BeApproximately(mean.CrossEntropy, 1e-5);
        for (int document = 0; document < Contexts; document++)
        {
            double Own(SpliceScore score) => SpliceScore.CrossEntropyOf(score.Sums.Of(Grouping.Document, document));
            Own(ablations.Zero).Should().BeApproximately(Own(zero), 1e-5);
            Own(ablations.Mean).Should().BeApproximately(Own(mean), 1e-5);
        }
        Math.Abs(mean.CrossEntropy - zero.CrossEntropy).Should().BeGreaterThan(1e-3);
        ablations.IsWholeStream.Should().Be(site is not (HookSite.MlpOut or HookSite.AttnOut));
    }
}
