using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>The kernels of a forward pass without gradients against the tensor operations it runs with them.</summary>
public class CpuForwardTests
{
    /// <summary>Shapes that leave rests: widths and positions that no vector, panel or block of rows divides.</summary>
    public static TheoryData<string, int> Shapes()
    {
        var data = new TheoryData<string, int>();
        foreach (string model in new[] { "llama", "llama-wide", "gpt2", "window", "part" })
        {
            foreach (int positions in new[] { 1, 2, 15, 16, 17, 63, 64, 65, 131 })
            {
                data.Add(model, positions);
            }
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Without_gradients_the_same_numbers_come_out(string name, int positions)
    {
        using var scope = NewDisposeScope();
        using var model = Model(name);
        var tokensBT = Tokens(3, positions);

        var plain = model.Forward(tokensBT);
        using var none = no_grad();
        var kernels = model.Forward(tokensBT);

        plain.requires_grad.Should().BeTrue("it ran as tensor operations");
        Difference(plain, kernels).Should().BeLessThan(1e-5);
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void The_number_of_threads_changes_no_bit_of_attention(int threads)
    {
        using var scope = NewDisposeScope();
        var shape = new AttentionShape(2, 70, 6, 3, 20, 0, 0.2f, null);
        var qkvBTW = randn(2, 70, (6 + 3 + 3) * 20);

        var alone = Attend(qkvBTW, shape, 1);
        var shared = Attend(qkvBTW, shape, threads);

        Difference(alone, shared).Should().Be(0);
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    public void A_query_that_sees_what_is_not_finite_is_not_finite(float value)
    {
        using var scope = NewDisposeScope();
        var shape = new AttentionShape(1, 40, 1, 1, 16, 0, 1, null);
        var qkvBTW = randn(1, 40, 48);
        qkvBTW[0, 21, 32] = value; // a value of the head

        var mixedT = Attend(qkvBTW, shape, 1)[0].select(1, 0);

        mixedT.narrow(0, 0, 16).isfinite().all().item<bool>().Should().BeTrue();
        mixedT.narrow(0, 21, 19).isfinite().any().item<bool>().Should().BeFalse();
    }

    [Fact]
    public void A_score_that_is_not_a_number_is_not_passed_over()
    {
        using var scope = NewDisposeScope();
        var shape = new AttentionShape(1, 40, 1, 1, 16, 0, 1, null);
        var qkvBTW = randn(1, 40, 48);
        qkvBTW[0, 5, 16] = float.NaN; // a key

        var mixedTA = Attend(qkvBTW, shape, 1)[0];

        mixedTA.narrow(0, 0, 5).isnan().any().item<bool>().Should().BeFalse();
        mixedTA.narrow(0, 5, 35).isnan().all().item<bool>().Should().BeTrue();
    }

    [Fact]
    public void What_a_reader_kept_stays_as_it_was()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = Model("llama");
        var kept = new List<(Tensor Alias, Tensor Copy)>();
        var hooks = new ForwardHooks();
        for (int layer = 0; layer < model.Config.Layers; layer++)
        {
            foreach (var site in Enum.GetValues<HookSite>())
            {
                hooks.Read(
                    new HookPoint(layer, site),
                    x => kept.Add((x.alias().DetachFromDisposeScope(), x.clone().DetachFromDisposeScope()))
                );
            }
        }

        model.Forward(Tokens(2, 9), hooks);

        kept.Should().HaveCount(5 * model.Config.Layers);
        kept.Should().OnlyContain(pair => Difference(pair.Alias, pair.Copy) == 0);
    }

    [Fact]
    public void A_hook_changes_no_bit_of_what_comes_after()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = Model("gpt2");
        var tokensBT = Tokens(2, 33);
        var hooks = new ForwardHooks();
        foreach (var site in Enum.GetValues<HookSite>())
        {
            hooks.Read(new HookPoint(0, site), _ => { });
        }

        Difference(model.Forward(tokensBT), model.Forward(tokensBT, hooks)).Should().Be(0);
    }

    private static Tensor Tokens(int batch, int positions) =>
        (arange((long)batch * positions) * 7 % 29).view(batch, positions);

    private static double Difference(Tensor a, Tensor b) => (a - b).abs().max().item<float>();

    private static unsafe Tensor Attend(Tensor qkvBTW, AttentionShape shape, int threads)
    {
        var mixed = empty(shape.Batch, shape.Positions, shape.Heads * shape.HeadWidth);
        CausalAttention.Run(
            (float*)qkvBTW.storage<float>().data_ptr(),
            null,
            null,
            (float*)mixed.storage<float>().data_ptr(),
            shape,
            threads
        );
        return mixed;
    }

    /// <summary>A model whose weights take gradients, large enough to matter.</summary>
    private static Transformer Model(string name)
    {
        var llama = TinyModels.LlamaConfig(layers: 2) with { Context = 256 };
        var config = name switch
        {
            "llama" => llama,
            "window" => llama with { Window = 20, SlidingLayers = new LayerSet([1]) },
            "part" => llama with
            {
                HeadWidth = 40,
                Rotary = new RotaryConfig { Width = 36 },
                ParallelResidual = true,
            },
            "llama-wide" => llama with { Width = 40, HeadWidth = 80, MlpWidth = 50 },
            _ => llama with
            {
                Family = "gpt2",
                KeyValueHeads = 4,
                HeadWidth = 36,
                Norm = NormKind.LayerNorm,
                Activation = ActivationKind.GeluTanh,
                GatedMlp = false,
                Rotary = null,
                QkvBias = true,
                AttentionOutBias = true,
                MlpBias = true,
                ScaleScoresByInverseLayer = true,
            },
        };
        var weights = TransformerInitialization.Random(config, seed: 3);
        foreach (var (_, value) in weights.Parameters())
        {
            if (value.dim() == 2)
            {
                using var none = no_grad();
                value.mul_(5);
            }
            value.requires_grad = true;
        }
        return new Transformer(config, weights);
    }
}
