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
    private (Tensor Cos, Tensor Sin)? rotary; // [positions so far, rotated dimensions / 2]

    public Transformer(TransformerConfig config, TransformerWeights weights, Device? device = null)
    {
        Config = config;
        Weights = weights;
        Device = device ?? CPU;
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
    /// <param name="later">What is called beyond that hook; made for this call, which may add the value to it as one more
    /// replacement.</param>
    public Tensor ForwardResidualWith(Tensor tokensBT, HookPoint hook, Tensor value, ForwardHooks? later = null)
    {
        int? first = hook.Site switch
        {
            HookSite.ResidPre => hook.Layer,
            HookSite.ResidPost => hook.Layer + 1,
            _ => null,
        };
        return first is { } layer
            ? Blocks(value.alias(), layer, Config.Layers, later)
            : ForwardResidual(tokensBT, (later ?? new ForwardHooks()).Replace(hook, _ => value.alias()));
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
        var logits = Weights.Unembedding.Apply(Normalize(Weights.FinalNorm, resid));
        return (Config.LogitCap is { } cap ? Cap(logits, cap) : logits).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        DropRotary();
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
        if (Config.EmbeddingScale != 1)
        {
            embedded = embedded * (float)Config.EmbeddingScale;
        }
        return embedded.MoveToOuterDisposeScope();
    }

    private Tensor Block(int layer, Tensor x, ForwardHooks? hooks)
    {
        using var scope = NewDisposeScope();
        var weights = Weights.Blocks[layer];
        Tensor Hooked(HookSite site, Tensor value) => hooks?.At(layer, site, value) ?? value;

        var residPreBTD = Hooked(HookSite.ResidPre, x.alias());
        var attnInBTD = NormalizeIf(weights.AttentionNorm, residPreBTD);
        var attnOutBTD = Hooked(
            HookSite.AttnOut,
            NormalizeIf(weights.AttentionOutNorm, Attention(layer, weights, attnInBTD))
        );
        var residMidBTD = Hooked(HookSite.ResidMid, Add(residPreBTD, attnOutBTD, HookSite.AttnOut));
        var mlpInBTD =
            Config.ParallelResidual && ReferenceEquals(weights.MlpNorm, weights.AttentionNorm)
                ? attnInBTD
                : NormalizeIf(weights.MlpNorm, Config.ParallelResidual ? residPreBTD : residMidBTD);
        var mlpOutBTD = Hooked(HookSite.MlpOut, NormalizeIf(weights.MlpOutNorm, Mlp(weights, mlpInBTD)));
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
            (Config.ScaleScores ? 1.0 / Math.Sqrt(Config.ScoreWidth ?? Config.HeadWidth) : 1.0)
            / (Config.ScaleScoresByInverseLayer ? layer + 1 : 1);
        // The kernel knows neither norms of queries and keys nor caps.
        bool plain = Config.QueryKeyNorm != QueryKeyNorm.None || Config.ScoreCap is not null;
        var mixed =
            CpuForward.Runs(Device) && !plain
                ? AttentionByKernel(layer, qkvBTW, factor)
                : AttentionByTensors(layer, weights, qkvBTW, factor);
        return weights.AttentionOut.Apply(mixed).MoveToOuterDisposeScope();
    }

    private Tensor AttentionByKernel(int layer, Tensor qkvBTW, double factor)
    {
        var tables = Config.Rotary is { } settings ? RotaryTables(settings, qkvBTW.shape[1]) : ((Tensor, Tensor)?)null;
        var shape = new AttentionShape(
            (int)qkvBTW.shape[0],
            (int)qkvBTW.shape[1],
            Config.Heads,
            Config.KeyValueHeads,
            Config.HeadWidth,
            Config.Rotary is null ? 0 : Config.Rotary.Width ?? Config.HeadWidth,
            (float)factor,
            Config.WindowOf(layer)
        );
        return CpuForward.Attention(qkvBTW, tables?.Item1, tables?.Item2, shape);
    }

    /// <summary>Attention between its projections, in tensor operations.</summary>
    private Tensor AttentionByTensors(int layer, BlockWeights weights, Tensor qkvBTW, double factor)
    {
        var (batch, positions) = (qkvBTW.shape[0], qkvBTW.shape[1]);
        int headWidth = Config.HeadWidth;
        Tensor Heads(Tensor flatBTW, int heads, Norm? norm)
        {
            flatBTW =
                Config.QueryKeyNorm == QueryKeyNorm.WholeProjection && norm is not null
                    ? RmsNorm(norm, flatBTW)
                    : flatBTW;
            var splitBTHd = flatBTW.contiguous().view(batch, positions, heads, headWidth);
            splitBTHd =
                Config.QueryKeyNorm == QueryKeyNorm.PerHead && norm is not null ? RmsNorm(norm, splitBTHd) : splitBTHd;
            return splitBTHd.transpose(1, 2);
        }

        var parts = qkvBTW.split(
            [Config.Heads * headWidth, Config.KeyValueHeads * headWidth, Config.KeyValueHeads * headWidth],
            -1
        );
        var queryBHTd = Heads(parts[0], Config.Heads, weights.QueryNorm);
        var keyBHTd = Heads(parts[1], Config.KeyValueHeads, weights.KeyNorm);
        var valueBHTd = Heads(parts[2], Config.KeyValueHeads, null);
        if (Config.Rotary is { } settings)
        {
            var tables = RotaryTables(settings, positions);
            queryBHTd = Rotate(queryBHTd, tables);
            keyBHTd = Rotate(keyBHTd, tables);
        }
        if (Config.KeyValueHeads != Config.Heads)
        {
            int groups = Config.Heads / Config.KeyValueHeads;
            keyBHTd = keyBHTd.repeat_interleave(groups, 1);
            valueBHTd = valueBHTd.repeat_interleave(groups, 1);
        }
        int? window = Config.WindowOf(layer) is { } width && width < positions ? width : null;
        return Mix(queryBHTd, keyBHTd, valueBHTd, factor, window)
            .transpose(1, 2)
            .reshape(batch, positions, Config.Heads * headWidth);
    }

    private Tensor Mix(Tensor queryBHTd, Tensor keyBHTd, Tensor valueBHTd, double factor, int? window)
    {
        if (Config.ScoreCap is { } cap)
        {
            var scoresBHTT = Cap(matmul(queryBHTd * factor, keyBHTd.transpose(-2, -1)), cap);
            var unseenTT = SeenTT(queryBHTd.shape[2], window).logical_not();
            return matmul(scoresBHTT.masked_fill(unseenTT, double.NegativeInfinity).softmax(-1), valueBHTd);
        }
        // scaled_dot_product_attention divides by sqrt(d_head) itself; further factors go into the query.
        double further = factor * Math.Sqrt(Config.HeadWidth);
        if (Math.Abs(further - 1.0) > 1e-12)
        {
            queryBHTd = queryBHTd * further;
        }
        return window is null
            ? nn.functional.scaled_dot_product_attention(queryBHTd, keyBHTd, valueBHTd, is_casual: true)
            : nn.functional.scaled_dot_product_attention(
                queryBHTd,
                keyBHTd,
                valueBHTd,
                SeenTT(queryBHTd.shape[2], window)
            );
    }

    /// <summary>Whether the query of a row sees the key of a column.</summary>
    private Tensor SeenTT(long positions, int? window)
    {
        var before = ones(positions, positions, dtype: ScalarType.Bool, device: Device).tril();
        return window is { } width ? before.triu(1 - width) : before;
    }

    private static Tensor Cap(Tensor x, double cap) => tanh(x / cap) * cap;

    private static Tensor Rotate(Tensor xBHTd, (Tensor Cos, Tensor Sin) tables)
    {
        long positions = xBHTd.shape[2];
        long half = tables.Cos.shape[1];
        var cos = tables.Cos.narrow(0, 0, positions);
        var sin = tables.Sin.narrow(0, 0, positions);
        var (low, high) = (xBHTd.narrow(-1, 0, half), xBHTd.narrow(-1, half, half));
        var rest = xBHTd.narrow(-1, 2 * half, xBHTd.shape[3] - (2 * half));
        return cat([low * cos - high * sin, high * cos + low * sin, rest], -1);
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
        return RmsNorm(norm, x);
    }

    private Tensor NormalizeIf(Norm? norm, Tensor x) => norm is null ? x : Normalize(norm, x);

    private Tensor RmsNorm(Norm norm, Tensor x)
    {
        if (CpuForward.Runs(Device))
        {
            return CpuForward.RmsNorm(x, norm.Weight, Config.NormEpsilon);
        }
        using var scope = NewDisposeScope();
        var meanSquare = x.square().mean([-1], keepdim: true);
        return (x * rsqrt(meanSquare + Config.NormEpsilon) * norm.Weight).MoveToOuterDisposeScope();
    }

    /// <summary>Cosine and sine [at least <paramref name="positions"/>, rotated dimensions / 2], made anew when a longer input comes.</summary>
    private (Tensor Cos, Tensor Sin) RotaryTables(RotaryConfig settings, long positions)
    {
        if (rotary is { } made && made.Cos.shape[0] >= positions)
        {
            return made;
        }
        DropRotary();
        double[] inverse = settings.InverseFrequencies(Config.HeadWidth);
        var cos = new float[positions * inverse.Length];
        var sin = new float[positions * inverse.Length];
        for (int position = 0; position < positions; position++)
        {
            for (int i = 0; i < inverse.Length; i++)
            {
                float angle = position * (float)inverse[i]; // float32, as transformers multiplies
                cos[(position * inverse.Length) + i] = MathF.Cos(angle);
                sin[(position * inverse.Length) + i] = MathF.Sin(angle);
            }
        }
        long[] shape = [positions, inverse.Length];
        var tables = (
            tensor(cos, shape).to(Device).DetachFromDisposeScope(),
            tensor(sin, shape).to(Device).DetachFromDisposeScope()
        );
        rotary = tables;
        return tables;
    }

    private void DropRotary()
    {
        rotary?.Cos.Dispose();
        rotary?.Sin.Dispose();
        rotary = null;
    }
}
