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
        foreach (string model in CpuForwardModels.Names)
        {
            foreach (int positions in new[] { 1, 2, 15, 16, 17, 63, 64, 65, 131 })
            {
                data.Add(model, positions);
            }
        }
        return data;
    }

    public static TheoryData<string> Names => [.. CpuForwardModels.Names];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Without_gradients_the_same_numbers_come_out(string name, int positions)
    {
        using var scope = NewDisposeScope();
        using var model = CpuForwardModels.Make(name);
        var tokensBT = CpuForwardModels.Tokens(3, positions);

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
        using var model = CpuForwardModels.Make("llama");
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

        model.Forward(CpuForwardModels.Tokens(2, 9), hooks);

        kept.Should().HaveCount(5 * model.Config.Layers);
        kept.Should().OnlyContain(pair => Difference(pair.Alias, pair.Copy) == 0);
    }

    /// <summary>Where nobody keeps anything the stream goes on in its own memory; what one reader kept is left alone.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void What_a_single_reader_kept_stays_as_it_was(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        foreach (var hook in Hooks(model))
        {
            Tensor? kept = null;
            Tensor? copy = null;
            var hooks = new ForwardHooks().Read(
                hook,
                x => (kept, copy) = (x.alias().DetachFromDisposeScope(), x.clone().DetachFromDisposeScope())
            );

            model.Forward(CpuForwardModels.Tokens(2, 33), hooks);

            Difference(kept!, copy!).Should().Be(0, $"{hook} was kept");
            kept!.Dispose();
            copy!.Dispose();
        }
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_reader_in_passing_sees_what_one_that_keeps_sees(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        var tokensBT = CpuForwardModels.Tokens(2, 33);
        var kept = new Dictionary<HookPoint, Tensor>();
        var passing = new Dictionary<HookPoint, Tensor>();
        var (keepers, passers) = (new ForwardHooks(), new ForwardHooks());
        foreach (var hook in StreamHooks(model))
        {
            keepers.Read(hook, x => kept[hook] = x.alias().DetachFromDisposeScope());
            passers.ReadInPassing(hook, x => passing[hook] = x.clone().DetachFromDisposeScope());
        }

        var expected = model.Forward(tokensBT, keepers);
        var actual = model.Forward(tokensBT, passers);

        Difference(expected, actual).Should().Be(0);
        foreach (var hook in StreamHooks(model))
        {
            Difference(kept[hook], passing[hook]).Should().Be(0, $"{hook}");
            kept[hook].Dispose();
            passing[hook].Dispose();
        }
    }

    [Theory]
    [InlineData("llama", 1)]
    [InlineData("norms-everywhere", 1)]
    [InlineData("phi", 3)] // a parallel block's MLP reads the stream that its attention has been added to elsewhere
    public void A_stream_that_nobody_keeps_goes_on_in_its_memory(string name, int memories)
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        var places = new HashSet<nint>();
        var aliases = new List<Tensor>();
        var hooks = new ForwardHooks();
        foreach (var hook in StreamHooks(model))
        {
            hooks.ReadInPassing(
                hook,
                x =>
                {
                    places.Add(Address(x));
                    aliases.Add(x.alias().DetachFromDisposeScope()); // so that no memory is freed and taken again
                }
            );
        }

        model.Forward(CpuForwardModels.Tokens(2, 33), hooks);

        places.Should().HaveCount(memories);
        aliases.ForEach(alias => alias.Dispose());
    }

    [Theory]
    [MemberData(nameof(Names))]
    public void A_hook_changes_no_bit_of_what_comes_after(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        var tokensBT = CpuForwardModels.Tokens(2, 33);
        var logits = model.Forward(tokensBT);
        foreach (var hook in Hooks(model))
        {
            bool read = false;

            var hooked = model.Forward(tokensBT, new ForwardHooks().Read(hook, _ => read = true));

            read.Should().BeTrue();
            Difference(logits, hooked).Should().Be(0, $"{hook} was only read");
        }
    }

    /// <summary>At the stream blocks are left out; elsewhere it is the replaced forward.</summary>
    [Theory]
    [MemberData(nameof(Names))]
    public void Going_on_from_a_value_is_the_forward_with_that_value_in_place(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        var tokensBT = CpuForwardModels.Tokens(2, 33);
        var valueBTD = CpuForwardModels.Normal(4, 2, 33, model.Config.Width);
        var kept = valueBTD.clone();
        foreach (var hook in Hooks(model))
        {
            var replaced = model.ForwardResidual(tokensBT, new ForwardHooks().Replace(hook, _ => valueBTD.alias()));

            Difference(replaced, model.ForwardResidualWith(tokensBT, hook, valueBTD)).Should().Be(0, $"{hook}");
            Difference(valueBTD, kept).Should().Be(0);
        }
    }

    /// <summary>More outputs than are packed at a time, twice over and a rest.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_wide_projection_is_packed_in_parts(bool normed)
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        const int Inputs = 1024;
        const int Part = 63 * PackedWeights.Columns;
        PackedWeights.Length(Inputs, Part).Should().BeLessThan(CpuForward.MostPacked);
        PackedWeights.Length(Inputs, Part + 1).Should().BeGreaterThan(CpuForward.MostPacked);
        var config = TinyModels.LlamaConfig(layers: 1) with { Width = Inputs };
        var tensors = new TensorForward(config, null, CPU);
        using var kernels = new CpuForward(config, null, tensors);
        var norm = normed ? new Norm(CpuForwardModels.Normal(5, Inputs), null) : null;
        var linear = new Linear(
            CpuForwardModels.Normal(6, (2 * Part) + 70, Inputs) / Math.Sqrt(Inputs),
            CpuForwardModels.Normal(7, (2 * Part) + 70)
        );
        var xBTD = CpuForwardModels.Normal(8, 1, 7, Inputs);

        var expected = tensors.Project(norm, linear, xBTD);
        var actual = kernels.Project(norm, linear, xBTD);

        Difference(expected, actual).Should().BeLessThan(1e-5);
    }

    /// <summary>A block each of whose weights is more than is packed at a time, with norms after its branches.</summary>
    [Theory]
    [InlineData(false, false)]
    [InlineData(true, false)]
    [InlineData(true, true)]
    public void A_block_of_wide_weights_is_packed_in_parts(bool gated, bool mayOverwrite)
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        const int Width = 4100;
        const int Hidden = PackedWeights.Depth + 90;
        var config = TinyModels.LlamaConfig(layers: 1) with
        {
            Width = Width,
            Heads = 16,
            KeyValueHeads = 1,
            HeadWidth = 64,
            GatedMlp = gated,
            Rotary = null,
        };
        int matrices = gated ? 2 : 1;
        var weights = new BlockWeights(
            NormOf(1),
            LinearOf(2, 18 * 64, Width),
            LinearOf(3, Width, 16 * 64),
            NormOf(4),
            LinearOf(5, matrices * Hidden, Width),
            LinearOf(6, Width, Hidden)
        )
        {
            AttentionOutNorm = NormOf(7),
            MlpOutNorm = NormOf(8),
        };
        PackedWeights.Length(Width, 18 * 64).Should().BeGreaterThan(CpuForward.MostPacked);
        PackedWeights.Length(16 * 64, Width).Should().BeGreaterThan(CpuForward.MostPacked);
        ((long)matrices * Width * 2 * PackedWeights.Depth).Should().BeGreaterThan(CpuForward.MostPacked);
        var tensors = new TensorForward(config, null, CPU);
        using var kernels = new CpuForward(config, null, tensors);
        var xBTD = CpuForwardModels.Normal(9, 2, 51, Width);
        var residBTD = CpuForwardModels.Normal(10, 2, 51, Width);

        Difference(
                tensors.Attention(0, weights, xBTD, residBTD, mayOverwrite),
                kernels.Attention(0, weights, xBTD, residBTD.clone(), mayOverwrite)
            )
            .Should()
            .BeLessThan(2e-5);
        Difference(
                tensors.Mlp(weights, xBTD, residBTD, mayOverwrite),
                kernels.Mlp(weights, xBTD, residBTD.clone(), mayOverwrite)
            )
            .Should()
            .BeLessThan(2e-5);

        static Norm NormOf(int seed) => new(CpuForwardModels.Normal(seed, Width), null);

        static Linear LinearOf(int seed, long outputs, long inputs) =>
            new(
                CpuForwardModels.Normal(seed, outputs, inputs) / Math.Sqrt(inputs),
                CpuForwardModels.Normal(seed + 20, outputs)
            );
    }

    /// <summary>More contexts than have queries, keys and values at a time, twice over and a rest.</summary>
    [Theory]
    [MemberData(nameof(CpuForwardThreadsTests.Names), MemberType = typeof(CpuForwardThreadsTests))]
    public void Contexts_beside_it_change_no_bit_of_a_context(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        CpuForwardModels.RequireKernels();
        var tokensBT = CpuForwardModels.Tokens(70, 131);

        var together = model.Forward(tokensBT);

        foreach (int context in new[] { 0, 30, 31, 61, 69 })
        {
            var alone = model.Forward(tokensBT.narrow(0, context, 1));
            Difference(together.narrow(0, context, 1), alone).Should().Be(0, $"context {context}");
        }
    }

    /// <summary>Two at a time, and again in their memory, of fewer rows and of more.</summary>
    [Theory]
    [InlineData("llama")]
    [InlineData("capped")]
    public void Lent_logits_are_those_that_are_kept(string name)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        foreach (int rows in new[] { 7, 3, 20 })
        {
            var oneRD = CpuForwardModels.Normal(rows, rows, model.Config.Width);
            var otherRD = CpuForwardModels.Normal(rows + 1, rows, model.Config.Width);

            using var one = model.LendLogits(oneRD);
            using var other = model.LendLogits(otherRD);

            Difference(one.Value, model.Unembed(oneRD)).Should().Be(0);
            Difference(other.Value, model.Unembed(otherRD)).Should().Be(0);
        }
    }

    /// <summary>Every weight a kernel reads, one short in each of its directions, in models with and without biases.</summary>
    public static TheoryData<string, string, int> Shortened()
    {
        var data = new TheoryData<string, string, int>();
        foreach (string name in new[] { "norms-everywhere", "phi", "llama" })
        {
            using var model = CpuForwardModels.Make(name);
            foreach (var (weight, value) in model.Weights.Parameters())
            {
                // libtorch looks up embeddings; fewer rows of an unembedding without bias are a smaller vocabulary.
                bool embedding = weight is "token_embedding" or "position_embedding";
                for (int axis = 0; axis < (embedding ? 0 : value.dim()); axis++)
                {
                    if ((weight, axis) != ("unembedding.weight", 0) || model.Weights.Unembedding.Bias is not null)
                    {
                        data.Add(name, weight, axis);
                    }
                }
            }
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Shortened))]
    public void A_weight_that_is_too_short_is_refused_and_not_read_beyond(string name, string weight, int axis)
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make(name);
        using var shortened = new Transformer(
            model.Config,
            CpuForwardModels.With(
                model.Weights,
                weight,
                value => value.narrow(axis, 0, value.shape[axis] - 1).contiguous()
            )
        );

        var forward = () => shortened.Forward(CpuForwardModels.Tokens(2, 9));

        forward.Should().ThrowExactly<ArgumentException>().WithMessage("shape *, expected *");
    }

    [Fact]
    public void A_layer_norm_without_bias_is_refused()
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make("gpt2");
        var norm = model.Weights.FinalNorm with { Bias = null };
        using var without = new Transformer(model.Config, model.Weights with { FinalNorm = norm });

        var forward = () => without.Forward(CpuForwardModels.Tokens(2, 9));

        forward.Should().ThrowExactly<ArgumentException>().WithMessage("*no bias*");
    }

    [Fact]
    public void A_weight_of_another_type_is_refused()
    {
        CpuForwardModels.RequireKernels();
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = CpuForwardModels.Make("llama");
        using var other = new Transformer(
            model.Config,
            CpuForwardModels.With(model.Weights, "blocks.0.mlp_in.weight", value => value.to(bfloat16))
        );

        var forward = () => other.Forward(CpuForwardModels.Tokens(2, 9));

        forward.Should().ThrowExactly<ArgumentException>().WithMessage("*expected contiguous float32*");
    }

    private static IEnumerable<HookPoint> Hooks(Transformer model) =>
        from layer in Enumerable.Range(0, model.Config.Layers)
        from site in Enum.GetValues<HookSite>()
        select new HookPoint(layer, site);

    /// <summary>Hooks that do not part a branch from the stream.</summary>
    private static IEnumerable<HookPoint> StreamHooks(Transformer model) =>
        Hooks(model).Where(hook => hook.Site is HookSite.ResidPre or HookSite.ResidMid or HookSite.ResidPost);

    private static unsafe nint Address(Tensor x) => (nint)CpuKernels.Floats(x);

    private static double Difference(Tensor a, Tensor b) => CpuForwardModels.Difference(a, b);

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
}
