using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>A value put in place of what the model has at a hook.</summary>
/// <param name="Score">What it costs is added there.</param>
/// <param name="Hook">Where.</param>
/// <param name="ValueBTD">What.</param>
internal sealed record Splice(SpliceScore Score, HookPoint Hook, Tensor ValueBTD);

/// <summary>A batch through the untouched model: what every splice of it is compared with.</summary>
/// <param name="TokensBT">int64.</param>
/// <param name="ResidBTD">After the last block.</param>
/// <param name="AtHook">What is at each hook, [B, T, D].</param>
internal sealed record CleanBatch(Tensor TokensBT, Tensor ResidBTD, IReadOnlyDictionary<HookPoint, Tensor> AtHook)
{
    /// <summary>Next tokens.</summary>
    public long Scored => TokensBT.shape[0] * (TokensBT.shape[1] - 1);

    public static CleanBatch Run(Transformer model, Tensor tokensBT, IReadOnlyList<HookPoint> hooks)
    {
        var atHook = new Dictionary<HookPoint, Tensor>();
        var readers = new ForwardHooks();
        foreach (var hook in hooks)
        {
            // The block's scope ends before this batch does.
            readers.Read(hook, x => atHook[hook] = x.clone().MoveToOuterDisposeScope());
        }
        return new CleanBatch(tokensBT, model.ForwardResidual(tokensBT, readers), atHook);
    }

    /// <summary>Runs each splice from its hook on, and scores them together: the clean logits are computed once for all.</summary>
    /// <returns>Cross-entropy of the untouched model, summed over the next tokens, nats.</returns>
    public double Score(Transformer model, IReadOnlyList<Splice> splices)
    {
        using var scope = NewDisposeScope();
        var splicedBTD = splices.Select(s => model.ForwardResidualWith(TokensBT, s.Hook, s.ValueBTD)).ToList();
        var scores = NextToken.Compare(model, ResidBTD, splicedBTD, TokensBT);
        for (int i = 0; i < splices.Count; i++)
        {
            splices[i].Score.Add(scores.Others[i].Loss, scores.Others[i].Divergence, Scored);
        }
        return scores.Loss;
    }
}

/// <summary>Cross-entropy and divergence of a model with one hook's value replaced, over all batches.</summary>
internal sealed class SpliceScore
{
    private double loss;
    private double divergence;
    private long scored;

    /// <summary>Mean cross-entropy, nats a token.</summary>
    public double CrossEntropy => loss / scored;

    /// <summary>Mean KL(clean ‖ spliced), nats a token.</summary>
    public double Divergence => divergence / scored;

    /// <summary>Everything summed so far.</summary>
    public double[] State
    {
        get => [loss, divergence, scored];
        set => (loss, divergence, scored) = (value[0], value[1], (long)value[2]);
    }

    /// <param name="batchLoss">Cross-entropy, summed over the batch's next tokens.</param>
    /// <param name="batchDivergence">KL(clean ‖ spliced), summed alike.</param>
    /// <param name="tokens">Next tokens.</param>
    public void Add(double batchLoss, double batchDivergence, long tokens)
    {
        loss += batchLoss;
        divergence += batchDivergence;
        scored += tokens;
    }

    /// <summary>1 where a splice costs nothing, 0 where it costs what the baseline costs.</summary>
    public static double Recovered(double clean, double spliced, double baseline) =>
        1 - ((spliced - clean) / (baseline - clean));
}
