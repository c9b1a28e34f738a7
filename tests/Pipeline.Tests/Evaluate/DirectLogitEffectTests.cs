using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class DirectLogitEffectTests
{
    /// <summary>The final norm is linear but for its scale, which a small step along a direction moves little.</summary>
    [Theory]
    [InlineData(NormKind.RmsNorm)]
    [InlineData(NormKind.LayerNorm)]
    public void It_is_how_logits_change_along_the_direction_times_the_scale_of_the_norm(NormKind norm)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var random = new Generator(2, CPU);
        var config = TinyModels.LlamaConfig(layers: 1) with { Norm = norm };
        var weights = TransformerInitialization.Random(config, seed: 1);
        weights.FinalNorm.Weight.copy_(rand(16, generator: random) + 0.5);
        using var model = new Transformer(config, weights);
        var directionsFD = randn(3, 16, generator: random);
        var residD = randn(16, generator: random) * 10;

        var actualFV = new DirectLogitEffect(model).Of(directionsFD);

        for (int f = 0; f < 3; f++)
        {
            // Steps perpendicular to the (centred) stream leave the scale as it is, to first order.
            var centredD = norm == NormKind.LayerNorm ? residD - residD.mean() : residD;
            var directionD = directionsFD[f] - (centredD * directionsFD[f].dot(centredD) / centredD.dot(centredD));
            var scale = centredD.square().mean().sqrt();
            var changeV = model.Unembed(residD + (1e-2 * directionD)) - model.Unembed(residD - (1e-2 * directionD));
            var expectedV = changeV * scale / 2e-2;
            var ownV = new DirectLogitEffect(model).Of(directionD.unsqueeze(0))[0];
            (ownV - expectedV).abs().max().item<float>().Should().BeLessThan(2e-3f * ownV.abs().max().item<float>());
            actualFV[f].shape.Should().Equal(32);
        }
        var sum = new DirectLogitEffect(model).Of(directionsFD.sum(0, keepdim: true))[0];
        (sum - actualFV.sum(0, keepdim: false)).abs().max().item<float>().Should().BeLessThan(1e-4f, "it is linear");
    }
}
