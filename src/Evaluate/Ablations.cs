using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// Zero and mean ablation of one hook, shared by its SAEs. Where the hook is the residual stream itself, an ablated stream
/// is the same vector at every token and tells nothing of the text: one context's forward, after the mean is known, serves
/// all. Elsewhere each batch takes a forward for each, and the mean must be known before.
/// </summary>
internal sealed class Ablations(HookPoint hook, int width)
{
    private readonly double[] sumD = new double[width];
    private long tokens;

    public SpliceScore Zero { get; } = new();

    public SpliceScore Mean { get; } = new();

    /// <summary>Whether a forward of one context serves all.</summary>
    public bool IsWholeStream => IsWholeStreamAt(hook);

    public static bool IsWholeStreamAt(HookPoint hook) =>
        hook.Site is HookSite.ResidPre or HookSite.ResidMid or HookSite.ResidPost;

    /// <summary>The mean's sums so far.</summary>
    public double[] MeanState
    {
        get => [tokens, .. sumD];
        set
        {
            tokens = (long)value[0];
            value.AsSpan(1).CopyTo(sumD);
        }
    }

    private float[] MeanD => [.. sumD.Select(sum => (float)(sum / tokens))];

    public void AddToMean(Tensor xBTD)
    {
        using var scope = NewDisposeScope();
        double[] batchSum = xBTD.reshape(-1, width).sum(0, type: float64).cpu().data<double>().ToArray();
        for (int i = 0; i < width; i++)
        {
            sumD[i] += batchSum[i];
        }
        tokens += xBTD.shape[0] * xBTD.shape[1];
    }

    /// <summary>A batch's ablations, for a hook that is not the whole stream; of the caller's dispose scope.</summary>
    public IEnumerable<Splice> SplicesOf(CleanBatch clean)
    {
        var x = clean.AtHook[hook];
        return
        [
            new(Zero, hook, zeros_like(x)),
            new(Mean, hook, tensor(MeanD, device: x.device).expand_as(x).contiguous()),
        ];
    }

    /// <summary>Scores all contexts, for a hook that is the whole stream.</summary>
    /// <param name="model">The model.</param>
    /// <param name="contexts">What was evaluated, T tokens each.</param>
    /// <param name="places">Of their tokens, one context after the other.</param>
    public void ScoreStream(Transformer model, IReadOnlyList<PackedContext> contexts, TokenPlace[] places)
    {
        foreach (var (score, valueD) in new[] { (Zero, new float[width]), (Mean, MeanD) })
        {
            using var scope = NewDisposeScope();
            int positions = contexts[0].Tokens.Length;
            var value1TD = tensor(valueD, device: model.Device).expand(1, positions, width).contiguous();
            var anyTokens1T = zeros([1, positions], int64, model.Device);
            ScoreShared(score, model, model.ForwardResidualWith(anyTokens1T, hook, value1TD), contexts, places);
        }
    }

    /// <summary>Scores all contexts by a residual stream [1, T, D] that is the same for each.</summary>
    public static void ScoreShared(
        SpliceScore score,
        Transformer model,
        Tensor resid1TD,
        IReadOnlyList<PackedContext> contexts,
        TokenPlace[] places
    )
    {
        var ids = contexts.Select(context => context.Tokens).ToList();
        double[][] losses = NextToken.LossesOfSharedStream(model, resid1TD.squeeze(0), ids);
        score.Add(places, [.. losses.SelectMany(lossT => lossT)]);
    }
}
