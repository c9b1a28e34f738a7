using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>A batch through the untouched model: what every splice of it is compared with.</summary>
/// <param name="TokensBT">int64.</param>
/// <param name="ResidBTD">After the last block.</param>
/// <param name="AtHook">The residual stream at each hook, [B, T, D].</param>
/// <param name="Loss">Sum over next tokens of the cross-entropy, nats.</param>
/// <param name="Scored">Next tokens.</param>
internal sealed record CleanBatch(
    Tensor TokensBT,
    Tensor ResidBTD,
    IReadOnlyDictionary<HookPoint, Tensor> AtHook,
    double Loss,
    long Scored
)
{
    public static CleanBatch Run(Transformer model, Tensor tokensBT, IReadOnlyList<HookPoint> hooks)
    {
        var atHook = new Dictionary<HookPoint, Tensor>();
        var readers = new ForwardHooks();
        foreach (var hook in hooks)
        {
            // The block's scope ends before this batch does.
            readers.Read(hook, x => atHook[hook] = x.clone().MoveToOuterDisposeScope());
        }
        var residBTD = model.ForwardResidual(tokensBT, readers);
        double loss = NextToken.Losses(model, residBTD, tokensBT).sum(float64).item<double>();
        return new CleanBatch(tokensBT, residBTD, atHook, loss, tokensBT.shape[0] * (tokensBT.shape[1] - 1));
    }
}

/// <summary>Cross-entropy, and divergence where asked for, of a model with one hook's value replaced, over all batches.</summary>
internal sealed class SpliceScore(bool measuresDivergence)
{
    private double loss;
    private double divergence;
    private long scored;

    /// <summary>Mean cross-entropy, nats a token.</summary>
    public double CrossEntropy => loss / scored;

    /// <summary>Mean KL(clean ‖ spliced), nats a token; NaN where it was not asked for.</summary>
    public double Divergence => measuresDivergence ? divergence / scored : double.NaN;

    /// <summary>Everything summed so far.</summary>
    public double[] State
    {
        get => [loss, divergence, scored];
        set => (loss, divergence, scored) = (value[0], value[1], (long)value[2]);
    }

    /// <param name="model">The model.</param>
    /// <param name="clean">The batch without a splice.</param>
    /// <param name="hook">Where.</param>
    /// <param name="value">What takes the value's place, [B, T, D].</param>
    public void Add(Transformer model, CleanBatch clean, HookPoint hook, Tensor value)
    {
        using var scope = NewDisposeScope();
        var splicedBTD = model.ForwardResidualWith(clean.TokensBT, hook, value);
        if (measuresDivergence)
        {
            var (batchLoss, batchDivergence) = NextToken.Compare(model, clean.ResidBTD, splicedBTD, clean.TokensBT);
            loss += batchLoss;
            divergence += batchDivergence;
        }
        else
        {
            loss += NextToken.Losses(model, splicedBTD, clean.TokensBT).sum(float64).item<double>();
        }
        scored += clean.Scored;
    }

    /// <summary>1 where a splice costs nothing, 0 where it costs what the baseline costs.</summary>
    public static double Recovered(double clean, double spliced, double baseline) =>
        1 - ((spliced - clean) / (baseline - clean));
}
