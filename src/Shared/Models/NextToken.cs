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
        return cat([.. InChunks(model, residBTD, tokensBT, LossesOfChunk)], 0)
            .view(tokensBT.shape[0], tokensBT.shape[1] - 1)
            .MoveToOuterDisposeScope();
    }

    private static Tensor LossesOfChunk(Tensor logitsRV, Tensor targetsR) =>
        nn.functional.cross_entropy(logitsRV, targetsR, reduction: nn.Reduction.None);

    private static IEnumerable<Tensor> InChunks(
        Transformer model,
        Tensor residBTD,
        Tensor tokensBT,
        Func<Tensor, Tensor, Tensor> ofChunk
    )
    {
        long positions = tokensBT.shape[1];
        var rowsRD = residBTD.narrow(1, 0, positions - 1).reshape(-1, residBTD.shape[2]);
        var targetsR = tokensBT.narrow(1, 1, positions - 1).reshape(-1);
        long chunk = Math.Max(1, MaximumLogitBytes / sizeof(float) / model.Config.Vocabulary);
        for (long from = 0; from < rowsRD.shape[0]; from += chunk)
        {
            using var scope = NewDisposeScope();
            long rows = Math.Min(chunk, rowsRD.shape[0] - from);
            using var logitsRV = model.Unembed(rowsRD.narrow(0, from, rows));
            yield return ofChunk(logitsRV, targetsR.narrow(0, from, rows)).MoveToOuterDisposeScope();
        }
    }
}
