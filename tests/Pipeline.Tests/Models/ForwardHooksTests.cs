using Pipeline.Shared;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

public class ForwardHooksTests
{
    [Fact]
    public void RunHooks_stops_after_the_deepest_hooked_layer()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 4);
        // A later block that ran would throw: its weights have no usable shape.
        var broken = model.Weights.Blocks[3] with
        {
            Qkv = new Linear(zeros(1, 1), null),
        };
        using var cut = new Transformer(
            model.Config,
            model.Weights with
            {
                Blocks = [.. model.Weights.Blocks.Take(3), broken],
            }
        );
        var tokensBT = arange(12).view(2, 6);
        int seen = 0;

        cut.RunHooks(tokensBT, new ForwardHooks().Read(new HookPoint(2, HookSite.ResidPost), _ => seen++));

        seen.Should().Be(1);
        ((Action)(() => cut.Forward(tokensBT))).Should().Throw<Exception>();
    }

    [Fact]
    public void A_replaced_value_is_what_later_readers_and_the_logits_see()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        var tokensBT = arange(12).view(2, 6);
        var plain = model.Forward(tokensBT);
        float largest = -1;
        var hook = new HookPoint(1, HookSite.ResidMid);

        var same = model.Forward(tokensBT, new ForwardHooks().Replace(hook, x => x.clone()));
        var zeroed = model.Forward(
            tokensBT,
            new ForwardHooks().Replace(hook, x => x.zeros_like()).Read(hook, x => largest = x.abs().max().item<float>())
        );

        largest.Should().Be(0);
        (same - plain).abs().max().item<float>().Should().Be(0);
        (zeroed - plain).abs().max().item<float>().Should().BeGreaterThan(0.01f);
    }

    [Theory]
    [InlineData(HookSite.ResidPre)]
    [InlineData(HookSite.AttnOut)]
    [InlineData(HookSite.ResidMid)]
    [InlineData(HookSite.MlpOut)]
    [InlineData(HookSite.ResidPost)]
    public void Going_on_from_a_value_is_replacing_it(HookSite site)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        var tokensBT = arange(12).view(2, 6);
        var hook = new HookPoint(1, site);
        var value = randn(2, 6, 16);

        var replaced = model.ForwardResidual(tokensBT, new ForwardHooks().Replace(hook, _ => value.clone()));
        var continued = model.ForwardResidualWith(tokensBT, hook, value);

        (replaced - continued).abs().max().item<float>().Should().Be(0);
        value.shape.Should().Equal(2, 6, 16); // still there
    }

    [Theory]
    [InlineData("blocks.2.hook_resid_post", "blocks.2.hook_resid_post")]
    [InlineData("blocks.mid.hook_resid_pre", "blocks.3.hook_resid_pre")]
    [InlineData("blocks.-2.hook_mlp_out", "blocks.4.hook_mlp_out")]
    public void Hook_names_resolve_against_the_depth(string text, string resolved) =>
        HookPoint.Parse(text, 6, "test").ToString().Should().Be(resolved);

    [Theory]
    [InlineData("blocks.6.hook_resid_post", "0 to 5")]
    [InlineData("blocks.-7.hook_resid_post", "0 to 5")]
    [InlineData("blocks.1.hook_resid", "hook_resid_post")]
    [InlineData("layer 3", "blocks.LAYER.SITE")]
    public void Hooks_a_model_does_not_have_are_refused(string text, string named) =>
        ((Action)(() => HookPoint.Parse(text, 6, "a.yaml: harvest.hooks[0]")))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(named)
            .And.Contain("a.yaml: harvest.hooks[0]");
}
