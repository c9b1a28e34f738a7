using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// Zero and mean ablation of one hook, shared by its SAEs. Where the hook is the residual stream itself, an ablated stream
/// is the same vector at every token and tells nothing of the text: one context's forward, after the mean is known, serves
/// all. Elsewhere each batch takes a forward for each, and the mean must be known before.
/// </summary>
internal sealed class Baselines(HookPoint hook, int width)
{
    private readonly double[] sumD = new double[width];
    private readonly SpliceScore zero = new();
    private readonly SpliceScore mean = new();
    private long tokens;

    /// <summary>Whether a forward of one context serves all.</summary>
    public bool IsWholeStream => hook.Site is HookSite.ResidPre or HookSite.ResidMid or HookSite.ResidPost;

    /// <summary>Everything summed so far.</summary>
    public double[] State
    {
        get => [tokens, .. zero.State, .. mean.State, .. sumD];
        set
        {
            tokens = (long)value[0];
            zero.State = value[1..4];
            mean.State = value[4..7];
            value.AsSpan(7).CopyTo(sumD);
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
            new(zero, hook, zeros_like(x)),
            new(mean, hook, tensor(MeanD, device: x.device).expand_as(x).contiguous()),
        ];
    }

    /// <summary>Mean cross-entropies over the next tokens of all contexts, nats a token.</summary>
    /// <param name="model">The model.</param>
    /// <param name="contexts">What was evaluated, T tokens each.</param>
    public (double Zero, double Mean) CrossEntropies(Transformer model, IReadOnlyList<int[]> contexts) =>
        IsWholeStream
            ? (OfConstantStream(model, new float[width], contexts), OfConstantStream(model, MeanD, contexts))
            : (zero.CrossEntropy, mean.CrossEntropy);

    private double OfConstantStream(Transformer model, float[] valueD, IReadOnlyList<int[]> contexts)
    {
        using var scope = NewDisposeScope();
        int positions = contexts[0].Length;
        var value1TD = tensor(valueD, device: model.Device).expand(1, positions, width).contiguous();
        var anyTokens1T = zeros([1, positions], int64, model.Device);
        var residTD = model.ForwardResidualWith(anyTokens1T, hook, value1TD).squeeze(0);
        return NextToken.LossOfSharedStream(model, residTD, contexts) / (contexts.Count * (positions - 1.0));
    }
}
