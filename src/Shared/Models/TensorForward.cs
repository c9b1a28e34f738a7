using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>Blocks in tensor operations: every one has a gradient, on any device.</summary>
internal sealed class TensorForward(TransformerConfig config, RotaryTables? rotary, Device device) : IBlockOperations
{
    public Tensor Project(Norm? norm, Linear linear, Tensor x)
    {
        using var scope = NewDisposeScope();
        return linear.Apply(NormalizeIf(norm, x)).MoveToOuterDisposeScope();
    }

    public Tensor Attention(int layer, BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        var mixedBTA = Attend(layer, weights, Project(weights.AttentionNorm, weights.Qkv, xBTD));
        var outBTD = NormalizeIf(weights.AttentionOutNorm, weights.AttentionOut.Apply(mixedBTA));
        return AddIf(residBTD, outBTD).MoveToOuterDisposeScope();
    }

    /// <summary>Attention between its projections: queries, keys and values [B,T,W] to mixed values [B,T,H x head width].</summary>
    public Tensor Attend(int layer, BlockWeights weights, Tensor qkvBTW)
    {
        using var scope = NewDisposeScope();
        var (batch, positions) = (qkvBTW.shape[0], qkvBTW.shape[1]);
        int headWidth = config.HeadWidth;
        Tensor Heads(Tensor flatBTW, int heads, Norm? norm)
        {
            flatBTW =
                config.QueryKeyNorm == QueryKeyNorm.WholeProjection && norm is not null
                    ? RmsNorm(norm, flatBTW)
                    : flatBTW;
            var splitBTHd = flatBTW.contiguous().view(batch, positions, heads, headWidth);
            splitBTHd =
                config.QueryKeyNorm == QueryKeyNorm.PerHead && norm is not null ? RmsNorm(norm, splitBTHd) : splitBTHd;
            return splitBTHd.transpose(1, 2);
        }

        var parts = qkvBTW.split(
            [config.Heads * headWidth, config.KeyValueHeads * headWidth, config.KeyValueHeads * headWidth],
            -1
        );
        var queryBHTd = Heads(parts[0], config.Heads, weights.QueryNorm);
        var keyBHTd = Heads(parts[1], config.KeyValueHeads, weights.KeyNorm);
        var valueBHTd = Heads(parts[2], config.KeyValueHeads, null);
        if (rotary is not null)
        {
            var tables = rotary.For(positions);
            queryBHTd = Rotate(queryBHTd, tables);
            keyBHTd = Rotate(keyBHTd, tables);
        }
        if (config.KeyValueHeads != config.Heads)
        {
            int groups = config.Heads / config.KeyValueHeads;
            keyBHTd = keyBHTd.repeat_interleave(groups, 1);
            valueBHTd = valueBHTd.repeat_interleave(groups, 1);
        }
        int? window = config.WindowOf(layer) is { } width && width < positions ? width : null;
        return Mix(queryBHTd, keyBHTd, valueBHTd, config.ScoreFactor(layer), window)
            .transpose(1, 2)
            .reshape(batch, positions, config.Heads * headWidth)
            .MoveToOuterDisposeScope();
    }

    public Tensor Mlp(BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        var innerBTM = weights.MlpIn.Apply(NormalizeIf(weights.MlpNorm, xBTD));
        if (config.GatedMlp)
        {
            var gateAndUp = innerBTM.chunk(2, -1);
            innerBTM = Activate(gateAndUp[0]) * gateAndUp[1];
        }
        else
        {
            innerBTM = Activate(innerBTM);
        }
        var outBTD = NormalizeIf(weights.MlpOutNorm, weights.MlpOut.Apply(innerBTM));
        return AddIf(residBTD, outBTD).MoveToOuterDisposeScope();
    }

    public static Tensor Cap(Tensor x, double cap) => tanh(x / cap) * cap;

    private static Tensor AddIf(Tensor? resid, Tensor addend) => resid is null ? addend : resid + addend;

    private Tensor Mix(Tensor queryBHTd, Tensor keyBHTd, Tensor valueBHTd, double factor, int? window)
    {
        if (config.ScoreCap is { } cap)
        {
            var scoresBHTT = Cap(matmul(queryBHTd * factor, keyBHTd.transpose(-2, -1)), cap);
            var unseenTT = SeenTT(queryBHTd.shape[2], window).logical_not();
            return matmul(scoresBHTT.masked_fill(unseenTT, double.NegativeInfinity).softmax(-1), valueBHTd);
        }
        // scaled_dot_product_attention divides by sqrt(d_head) itself; further factors go into the query.
        double further = factor * Math.Sqrt(config.HeadWidth);
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
        var before = ones(positions, positions, dtype: ScalarType.Bool, device: device).tril();
        return window is { } width ? before.triu(1 - width) : before;
    }

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

    private Tensor Activate(Tensor x) =>
        config.Activation switch
        {
            ActivationKind.GeluTanh => nn.functional.gelu(x, TorchSharp.Modules.GELU.Approximate.tanh),
            ActivationKind.GeluErf => nn.functional.gelu(x),
            ActivationKind.Silu => nn.functional.silu(x),
            ActivationKind.Relu => nn.functional.relu(x),
            _ => throw new InvalidOperationException($"no activation {config.Activation}"),
        };

    private Tensor NormalizeIf(Norm? norm, Tensor x) =>
        norm is null ? x
        : config.Norm == NormKind.RmsNorm ? RmsNorm(norm, x)
        : nn.functional.layer_norm(x, [config.Width], norm.Weight, norm.Bias, config.NormEpsilon);

    private Tensor RmsNorm(Norm norm, Tensor x)
    {
        var meanSquare = x.square().mean([-1], keepdim: true);
        return x * rsqrt(meanSquare + config.NormEpsilon) * norm.Weight;
    }
}
