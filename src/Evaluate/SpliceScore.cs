using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>A value put in place of what the model has at a hook.</summary>
/// <param name="Score">What it costs is added there.</param>
/// <param name="Hook">Where.</param>
/// <param name="ValueBTD">What.</param>
internal sealed record Splice(SpliceScore Score, HookPoint Hook, Tensor ValueBTD)
{
    /// <summary>What else is replaced beyond that hook; null for nothing.</summary>
    public ForwardHooks? Later { get; init; }

    /// <summary>The residual stream after the last block, [B, T, D].</summary>
    public Tensor ForwardResidual(Transformer model, Tensor tokensBT) =>
        model.ForwardResidualWith(tokensBT, Hook, ValueBTD, Later);
}

/// <summary>A batch through the untouched model: what every splice of it is compared with.</summary>
/// <param name="TokensBT">int64.</param>
/// <param name="Places">Of its tokens, [B x T].</param>
/// <param name="ResidBTD">After the last block.</param>
/// <param name="AtHook">What is at each hook, [B, T, D].</param>
internal sealed record CleanBatch(
    Tensor TokensBT,
    TokenPlace[] Places,
    Tensor ResidBTD,
    IReadOnlyDictionary<HookPoint, Tensor> AtHook
)
{
    private readonly Dictionary<HookPoint, float[]> values = [];

    /// <summary>What is at a hook, row-major [B x T, D]: copied once for all that measure it.</summary>
    public float[] ValuesAt(HookPoint hook)
    {
        if (!values.TryGetValue(hook, out float[]? copy))
        {
            copy = CpuKernels.ToArray<float>(AtHook[hook]);
            values.Add(hook, copy);
        }
        return copy;
    }

    public static CleanBatch Run(
        Transformer model,
        Tensor tokensBT,
        TokenPlace[] places,
        IReadOnlyList<HookPoint> hooks
    )
    {
        var atHook = new Dictionary<HookPoint, Tensor>();
        var readers = new ForwardHooks();
        foreach (var hook in hooks)
        {
            // The block's scope ends before this batch does.
            readers.Read(hook, x => atHook[hook] = x.clone().MoveToOuterDisposeScope());
        }
        return new CleanBatch(tokensBT, places, model.ForwardResidual(tokensBT, readers), atHook);
    }

    /// <summary>Runs each splice from its hook on, and scores them together: the clean logits are computed once for all.</summary>
    /// <returns>Cross-entropy of the untouched model at each next token, [B x (T - 1)], nats.</returns>
    public double[] Score(Transformer model, IReadOnlyList<Splice> splices)
    {
        using var scope = NewDisposeScope();
        var splicedBTD = splices.Select(splice => splice.ForwardResidual(model, TokensBT)).ToList();
        var scores = NextToken.Compare(model, ResidBTD, splicedBTD, TokensBT);
        for (int i = 0; i < splices.Count; i++)
        {
            splices[i].Score.Add(Places, scores.Others[i].LossR, scores.Others[i].DivergenceR);
        }
        return scores.LossR;
    }

    /// <summary>The same of one splice's cross-entropy alone, without the clean logits and the divergence from them.</summary>
    public void ScoreLoss(Transformer model, Splice splice)
    {
        using var scope = NewDisposeScope();
        var lossesBT = NextToken.Losses(model, splice.ForwardResidual(model, TokensBT), TokensBT);
        splice.Score.Add(Places, CpuKernels.ToArray<double>(lossesBT.to(float64)));
    }
}

/// <summary>Cross-entropy and divergence of a model with values replaced, over all batches and in groups of tokens.</summary>
internal sealed class SpliceScore
{
    private const int Scored = 0;
    private const int Loss = 1;
    private const int Divergence = 2;
    private const int Columns = 3;

    public GroupedSums Sums { get; } = new(Columns);

    /// <summary>Mean cross-entropy, nats a token.</summary>
    public double CrossEntropy => CrossEntropyOf(Sums.Total());

    /// <summary>Mean KL(clean ‖ spliced), nats a token.</summary>
    public double MeanDivergence => MeanDivergenceOf(Sums.Total());

    public static double TokensOf(ReadOnlySpan<double> sums) => sums[Scored];

    public static double CrossEntropyOf(ReadOnlySpan<double> sums) => sums[Loss] / sums[Scored];

    public static double MeanDivergenceOf(ReadOnlySpan<double> sums) => sums[Divergence] / sums[Scored];

    /// <summary>Cross-entropy of every resample.</summary>
    public double[] CrossEntropiesOf(Bootstrap bootstrap)
    {
        const int Both = 2;
        double[] scoredAndLossR2 = bootstrap.Totals(Sums, Scored, Both);
        return
        [
            .. Enumerable
                .Range(0, Bootstrap.Resamples)
                .Select(r => CrossEntropyOf(scoredAndLossR2.AsSpan(r * Both, Both))),
        ];
    }

    /// <summary>Adds a batch: what is predicted from a token counts at that token's place.</summary>
    /// <param name="places">[B x T]</param>
    /// <param name="lossR">Cross-entropy of each next token, R = B x (T - 1).</param>
    /// <param name="divergenceR">KL(clean ‖ spliced) alike; null where nobody asks for it.</param>
    public void Add(TokenPlace[] places, double[] lossR, double[]? divergenceR = null)
    {
        int contexts = places.Length - lossR.Length; // each predicts one token fewer than it has
        int positions = places.Length / contexts;
        Span<double> row = stackalloc double[Columns];
        row[Scored] = 1;
        for (int r = 0; r < lossR.Length; r++)
        {
            (row[Loss], row[Divergence]) = (lossR[r], divergenceR?[r] ?? 0);
            Sums.Add(places[(r / (positions - 1) * positions) + (r % (positions - 1))], row);
        }
    }

    /// <summary>1 where a splice costs nothing, 0 where it costs what the baseline costs.</summary>
    public static double Recovered(double clean, double spliced, double baseline) =>
        1 - ((spliced - clean) / (baseline - clean));
}
