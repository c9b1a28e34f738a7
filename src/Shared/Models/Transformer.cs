using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A decoder-only transformer: tokens [B,T] -> embedding -> blocks -> final norm -> logits [B,T,V], float32.
/// Axes: B batch, T position, D width, H heads, V vocabulary. Works under <c>no_grad</c> for inference and without it for
/// training: every operation has a gradient.
/// </summary>
public sealed class Transformer : IDisposable
{
    private readonly Tensor? rotaryCos;
    private readonly Tensor? rotarySin;

    public Transformer(TransformerConfig config, TransformerWeights weights, Device? device = null)
    {
        Config = config;
        Weights = weights;
        Device = device ?? CPU;
        if (config.Rotary is { } rotary)
        {
            (rotaryCos, rotarySin) = RotaryTables(rotary, config.HeadWidth, config.Context, Device);
        }
    }

    public TransformerConfig Config { get; }
    public TransformerWeights Weights { get; }
    public Device Device { get; }

    /// <summary>Next-token logits [B,T,V] for <paramref name="tokensBT"/> (int64 ids, T at most the model's context).</summary>
    public Tensor Forward(Tensor tokensBT, ForwardHooks? hooks = null)
    {
        using var scope = NewDisposeScope();
        var residBTD = Residual(tokensBT, hooks, Config.Layers);
        return Unembed(residBTD).MoveToOuterDisposeScope();
    }

    /// <summary>The residual stream [B,T,D] after the last block, before the final norm: what <see cref="Unembed"/> takes.</summary>
    public Tensor ForwardResidual(Tensor tokensBT, ForwardHooks? hooks = null) =>
        Residual(tokensBT, hooks, Config.Layers);

    /// <summary>
    /// The same stream when <paramref name="value"/> [B,T,D] takes the place of what is at <paramref name="hook"/>. At a
    /// hook on the residual stream the blocks before it are not run.
    /// </summary>
    /// <param name="tokensBT">int64 ids, for hooks inside a block.</param>
    /// <param name="hook">Where.</param>
    /// <param name="value">Stays the caller's.</param>
    public Tensor ForwardResidualWith(Tensor tokensBT, HookPoint hook, Tensor value)
    {
        int? first = hook.Site switch
        {
            HookSite.ResidPre => hook.Layer,
            HookSite.ResidPost => hook.Layer + 1,
            _ => null,
        };
        return first is { } layer
            ? Blocks(value.alias(), layer, Config.Layers, null)
            : ForwardResidual(tokensBT, new ForwardHooks().Replace(hook, _ => value.alias()));
    }

    /// <summary>Runs blocks up to the deepest hooked one and no further; readers are all there is to see of it.</summary>
    public void RunHooks(Tensor tokensBT, ForwardHooks hooks)
    {
        using var scope = NewDisposeScope();
        Residual(tokensBT, hooks, hooks.LastLayer + 1);
    }

    /// <summary>Final norm and unembedding: [.., D] to [.., V].</summary>
    public Tensor Unembed(Tensor resid)
    {
        using var scope = NewDisposeScope();
        return Weights.Unembedding.Apply(Normalize(Weights.FinalNorm, resid)).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        rotaryCos?.Dispose();
        rotarySin?.Dispose();
        foreach (var (_, value) in Weights.Parameters())
        {
            value.Dispose();
        }
    }

    private Tensor Residual(Tensor tokensBT, ForwardHooks? hooks, int layers)
    {
        long positions = tokensBT.shape[1];
        if (positions > Config.Context)
        {
            throw new ArgumentException(
                $"tokensBT has {positions} positions; this model was made for at most {Config.Context}."
            );
        }
        return Blocks(Embed(tokensBT), 0, layers, hooks);
    }

    /// <summary>Runs blocks first .. last - 1; disposes what it is given.</summary>
    private Tensor Blocks(Tensor residBTD, int first, int last, ForwardHooks? hooks)
    {
        for (int layer = first; layer < last; layer++)
        {
            var previous = residBTD;
            residBTD = Block(layer, previous, hooks);
            previous.Dispose(); // in training the graph holds what it needs
        }
        return residBTD;
    }

    private Tensor Embed(Tensor tokensBT)
    {
        using var scope = NewDisposeScope();
        var embedded = Weights
            .TokenEmbedding.index_select(0, tokensBT.reshape(-1))
            .view(tokensBT.shape[0], tokensBT.shape[1], Config.Width);
        if (Weights.PositionEmbedding is { } positions)
        {
            embedded = embedded + positions.narrow(0, 0, tokensBT.shape[1]);
        }
        return embedded.MoveToOuterDisposeScope();
    }

    private Tensor Block(int layer, Tensor x, ForwardHooks? hooks)
    {
        using var scope = NewDisposeScope();
        var weights = Weights.Blocks[layer];
        Tensor Hooked(HookSite site, Tensor value) => hooks?.At(layer, site, value) ?? value;

        var residPreBTD = Hooked(HookSite.ResidPre, x.alias());
        var attnOutBTD = Hooked(
            HookSite.AttnOut,
            Attention(layer, weights, Normalize(weights.AttentionNorm, residPreBTD))
        );
        var residMidBTD = Hooked(HookSite.ResidMid, Add(residPreBTD, attnOutBTD, HookSite.AttnOut));
        var mlpOutBTD = Hooked(HookSite.MlpOut, Mlp(weights, Normalize(weights.MlpNorm, residMidBTD)));
        return Hooked(HookSite.ResidPost, Add(residMidBTD, mlpOutBTD, HookSite.MlpOut)).MoveToOuterDisposeScope();

        // In place of the addend where no hook can have kept it.
        Tensor Add(Tensor resid, Tensor addend, HookSite site) =>
            CpuForward.Runs(Device) && hooks?.Has(layer, site) != true ? addend.add_(resid) : resid + addend;
    }

    private Tensor Attention(int layer, BlockWeights weights, Tensor x)
    {
        using var scope = NewDisposeScope();
        var qkvBTW = weights.Qkv.Apply(x);
        double factor =
            (Config.ScaleScores ? 1.0 / Math.Sqrt(Config.HeadWidth) : 1.0)
            / (Config.ScaleScoresByInverseLayer ? layer + 1 : 1);
        var mixed = CpuForward.Runs(Device)
            ? CpuForward.Attention(qkvBTW, rotaryCos, rotarySin, AttentionShape(qkvBTW, factor))
            : Mix(qkvBTW, factor);
        return weights.AttentionOut.Apply(mixed).MoveToOuterDisposeScope();
    }

    private AttentionShape AttentionShape(Tensor qkvBTW, double factor) =>
        new(
            (int)qkvBTW.shape[0],
            (int)qkvBTW.shape[1],
            Config.Heads,
            Config.KeyValueHeads,
            Config.HeadWidth,
            Config.Rotary is null ? 0 : Config.HeadWidth,
            (float)factor,
            null
        );

    /// <summary>Attention between its projections, in tensor operations.</summary>
    private Tensor Mix(Tensor qkvBTW, double factor)
    {
        var (batch, positions) = (qkvBTW.shape[0], qkvBTW.shape[1]);
        int headWidth = Config.HeadWidth;
        Tensor SplitHeads(Tensor flat, int heads) => flat.view(batch, positions, heads, headWidth).transpose(1, 2);

        var parts = qkvBTW.split(
            [Config.Heads * headWidth, Config.KeyValueHeads * headWidth, Config.KeyValueHeads * headWidth],
            -1
        );
        var queryBHTd = SplitHeads(parts[0].contiguous(), Config.Heads);
        var keyBHTd = SplitHeads(parts[1].contiguous(), Config.KeyValueHeads);
        var valueBHTd = SplitHeads(parts[2].contiguous(), Config.KeyValueHeads);
        if (Config.Rotary is not null)
        {
            queryBHTd = Rotate(queryBHTd);
            keyBHTd = Rotate(keyBHTd);
        }
        if (Config.KeyValueHeads != Config.Heads)
        {
            int groups = Config.Heads / Config.KeyValueHeads;
            keyBHTd = keyBHTd.repeat_interleave(groups, 1);
            valueBHTd = valueBHTd.repeat_interleave(groups, 1);
        }
        // scaled_dot_product_attention divides by sqrt(d_head) itself; further factors go into the query.
        double further = factor * Math.Sqrt(headWidth);
        if (Math.Abs(further - 1.0) > 1e-12)
        {
            queryBHTd = queryBHTd * further;
        }
        return nn
            .functional.scaled_dot_product_attention(queryBHTd, keyBHTd, valueBHTd, is_casual: true)
            .transpose(1, 2)
            .reshape(batch, positions, Config.Heads * headWidth);
    }

    private Tensor Rotate(Tensor xBHTd)
    {
        long positions = xBHTd.shape[2];
        var halves = xBHTd.chunk(2, -1);
        var cos = rotaryCos!.narrow(0, 0, positions);
        var sin = rotarySin!.narrow(0, 0, positions);
        return cat([halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin], -1);
    }

    private Tensor Mlp(BlockWeights weights, Tensor x)
    {
        using var scope = NewDisposeScope();
        var inner = weights.MlpIn.Apply(x);
        if (!Config.GatedMlp)
        {
            inner = Activate(inner);
        }
        else if (Config.Activation == ActivationKind.Silu && CpuForward.Runs(Device))
        {
            inner = CpuForward.SiluGate(inner);
        }
        else
        {
            var gateAndUp = inner.chunk(2, -1);
            inner = Activate(gateAndUp[0]) * gateAndUp[1];
        }
        return weights.MlpOut.Apply(inner).MoveToOuterDisposeScope();
    }

    private Tensor Activate(Tensor x) =>
        Config.Activation switch
        {
            ActivationKind.GeluTanh => GeluTanh(x),
            ActivationKind.GeluErf => nn.functional.gelu(x),
            ActivationKind.Silu => nn.functional.silu(x),
            ActivationKind.Relu => nn.functional.relu(x),
            _ => throw new InvalidOperationException($"no activation {Config.Activation}"),
        };

    /// <summary>Of an activation that nothing else needs.</summary>
    private Tensor GeluTanh(Tensor x) =>
        CpuForward.Runs(Device) && x.is_contiguous()
            ? CpuForward.GeluTanhInPlace(x)
            : nn.functional.gelu(x, TorchSharp.Modules.GELU.Approximate.tanh);

    private Tensor Normalize(Norm norm, Tensor x)
    {
        if (Config.Norm == NormKind.LayerNorm)
        {
            return nn.functional.layer_norm(x, [Config.Width], norm.Weight, norm.Bias, Config.NormEpsilon);
        }
        if (CpuForward.Runs(Device))
        {
            return CpuForward.RmsNorm(x, norm.Weight, Config.NormEpsilon);
        }
        using var scope = NewDisposeScope();
        var meanSquare = x.square().mean([-1], keepdim: true);
        return (x * rsqrt(meanSquare + Config.NormEpsilon) * norm.Weight).MoveToOuterDisposeScope();
    }

    private static (Tensor Cos, Tensor Sin) RotaryTables(RotaryConfig rotary, int headWidth, int context, Device device)
    {
        double[] inverse = rotary.InverseFrequencies(headWidth);
        var cos = new float[context * inverse.Length];
        var sin = new float[context * inverse.Length];
        for (int position = 0; position < context; position++)
        {
            for (int i = 0; i < inverse.Length; i++)
            {
                float angle = position * (float)inverse[i]; // float32, as transformers multiplies
                cos[(position * inverse.Length) + i] = MathF.Cos(angle);
                sin[(position * inverse.Length) + i] = MathF.Sin(angle);
            }
        }
        long[] shape = [context, inverse.Length];
        return (
            tensor(cos, shape).to(device).DetachFromDisposeScope(),
            tensor(sin, shape).to(device).DetachFromDisposeScope()
        );
    }
}
