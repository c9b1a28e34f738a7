using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>Next-token prediction scores, in nats.</summary>
public static class NextToken
{
    /// <summary>Logits of this many bytes exist at a time, so that vocabulary x context never fills memory.</summary>
    private const long MaximumLogitBytes = 128L << 20;

    /// <summary>
    /// Cross-entropy of each next token, -ln p(token t+1 | tokens 0..t), [B, T-1] float32.
    /// </summary>
    /// <param name="model">The model whose unembedding is used.</param>
    /// <param name="residBTD">The residual stream after the last block.</param>
    /// <param name="tokensBT">int64 ids.</param>
    public static Tensor Losses(Transformer model, Tensor residBTD, Tensor tokensBT)
    {
        using var scope = NewDisposeScope();
        var losses = new List<Tensor>();
        foreach (var (rowsRD, targetsR) in Chunks(model, residBTD, tokensBT))
        {
            using var chunk = NewDisposeScope();
            losses.Add(
                nn.functional.cross_entropy(model.Unembed(rowsRD), targetsR, reduction: nn.Reduction.None)
                    .MoveToOuterDisposeScope()
            );
        }
        return cat(losses, 0).view(tokensBT.shape[0], tokensBT.shape[1] - 1).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Scores a spliced forward against the clean one, summed over all next tokens in float64: cross-entropy of the spliced
    /// logits, and KL(clean ‖ spliced).
    /// </summary>
    public static (double Loss, double Divergence) Compare(
        Transformer model,
        Tensor cleanBTD,
        Tensor splicedBTD,
        Tensor tokensBT
    )
    {
        using var scope = NewDisposeScope();
        var pairs = cat([cleanBTD, splicedBTD], -1);
        long width = cleanBTD.shape[2];
        double loss = 0;
        double divergence = 0;
        foreach (var (pairsRD, targetsR) in Chunks(model, pairs, tokensBT))
        {
            using var chunk = NewDisposeScope();
            var cleanRV = model.Unembed(pairsRD.narrow(1, 0, width)).log_softmax(-1);
            var splicedRV = model.Unembed(pairsRD.narrow(1, width, width)).log_softmax(-1);
            loss -= splicedRV.gather(1, targetsR.unsqueeze(1)).sum(float64).item<double>();
            divergence += (cleanRV.exp() * (cleanRV - splicedRV)).sum(float64).item<double>();
        }
        return (loss, divergence);
    }

    /// <summary>Rows that predict something, and what comes next, few enough at a time for their logits.</summary>
    private static IEnumerable<(Tensor RowsRD, Tensor TargetsR)> Chunks(
        Transformer model,
        Tensor residBTD,
        Tensor tokensBT
    )
    {
        long positions = tokensBT.shape[1];
        var rowsRD = residBTD.narrow(1, 0, positions - 1).reshape(-1, residBTD.shape[2]);
        var targetsR = tokensBT.narrow(1, 1, positions - 1).reshape(-1);
        long chunk = Math.Max(1, MaximumLogitBytes / sizeof(float) / model.Config.Vocabulary);
        for (long from = 0; from < rowsRD.shape[0]; from += chunk)
        {
            long rows = Math.Min(chunk, rowsRD.shape[0] - from);
            yield return (rowsRD.narrow(0, from, rows), targetsR.narrow(0, from, rows));
        }
    }
}
