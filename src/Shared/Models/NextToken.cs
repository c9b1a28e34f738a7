using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A clean forward's next-token scores and those of forwards compared with it, nats, row by row: R = B x (T - 1) rows, those
/// of a context one after the other.
/// </summary>
/// <param name="LossR">Cross-entropy of the clean forward.</param>
/// <param name="Others">Of each other forward its cross-entropy, and KL(clean ‖ other).</param>
public sealed record NextTokenScores(double[] LossR, IReadOnlyList<(double[] LossR, double[] DivergenceR)> Others);

/// <summary>
/// Next-token prediction scores, in nats. Logits come to be for so many rows at a time that they never take more than
/// 256 MB, however large the vocabulary; with gradients, autograd keeps them all.
/// </summary>
public static class NextToken
{
    /// <summary>The most matrices of logits or of their size that exist at a time.</summary>
    private const int Matrices = 4;
    private const long MaximumBytes = 256L << 20;

    /// <summary>One that stays in the cache, and whose memory the allocator uses again.</summary>
    private const long CachedBytes = 16L << 20;

    /// <summary>Fewer rows make a poor matrix product.</summary>
    private const long FewRows = 256;

    /// <summary>Rows that a thread takes at a time, at most.</summary>
    private const int StretchRows = 16;

    /// <summary>Rows whose logits exist at a time.</summary>
    public static long RowsAtATime(int vocabulary)
    {
        long rowBytes = sizeof(float) * (long)vocabulary;
        long most = MaximumBytes / Matrices / rowBytes;
        return Math.Max(1, Math.Max(CachedBytes / rowBytes, Math.Min(FewRows, most)));
    }

    /// <summary>
    /// Cross-entropy of each next token, -ln p(token t+1 | tokens 0..t), [B, T-1] float32.
    /// </summary>
    /// <param name="model">The model whose unembedding is used.</param>
    /// <param name="residBTD">The residual stream after the last block.</param>
    /// <param name="tokensBT">int64 ids.</param>
    public static Tensor Losses(Transformer model, Tensor residBTD, Tensor tokensBT)
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(tokensBT);
        using var scope = NewDisposeScope();
        var targetsR = TargetsR(tokensBT);
        var losses = new List<Tensor>();
        foreach (var (first, rowsRD) in Chunks(model, RowsRD(residBTD)))
        {
            using var chunk = NewDisposeScope();
            using var logitsRV = model.LendLogits(rowsRD);
            var ownTargetsR = targetsR.narrow(0, first, rowsRD.shape[0]);
            var lossesR = CpuKernels.MayCompute(logitsRV.Value)
                ? LossesByKernel(logitsRV.Value, CpuKernels.ToArray<long>(ownTargetsR))
                : nn.functional.cross_entropy(logitsRV.Value, ownTargetsR, reduction: nn.Reduction.None);
            losses.Add(lossesR.MoveToOuterDisposeScope());
        }
        return cat(losses, 0).view(tokensBT.shape[0], tokensBT.shape[1] - 1).MoveToOuterDisposeScope();
    }

    /// <summary>Scores forwards of the same tokens against a clean one.</summary>
    /// <param name="model">The model whose unembedding is used.</param>
    /// <param name="cleanBTD">The clean residual stream after the last block.</param>
    /// <param name="othersBTD">Those of the other forwards.</param>
    /// <param name="tokensBT">int64 ids.</param>
    public static NextTokenScores Compare(
        Transformer model,
        Tensor cleanBTD,
        IReadOnlyList<Tensor> othersBTD,
        Tensor tokensBT
    )
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(othersBTD);
        ArgumentNullException.ThrowIfNull(tokensBT);
        using var scope = NewDisposeScope();
        var targetsR = TargetsR(tokensBT);
        var othersRD = othersBTD.Select(RowsRD).ToList();
        var lossR = new double[targetsR.numel()];
        var others = othersRD.ConvertAll(_ => (LossR: new double[lossR.Length], DivergenceR: new double[lossR.Length]));
        foreach (var (first, cleanRD) in Chunks(model, RowsRD(cleanBTD)))
        {
            using var chunk = NewDisposeScope();
            long rows = cleanRD.shape[0];
            using var cleanRV = model.LendLogits(cleanRD);
            var clean = CpuKernels.MayCompute(cleanRD)
                ? ByKernel(cleanRV.Value, targetsR.narrow(0, first, rows))
                : ByTensors(cleanRV.Value, targetsR.narrow(0, first, rows));
            clean.LossR.CopyTo(lossR, first);
            for (int i = 0; i < others.Count; i++)
            {
                using var one = NewDisposeScope();
                using var otherRV = model.LendLogits(othersRD[i].narrow(0, first, rows));
                var own = clean.Score(otherRV.Value);
                own.LossR.CopyTo(others[i].LossR, first);
                own.DivergenceR.CopyTo(others[i].DivergenceR, first);
            }
        }
        return new NextTokenScores(lossR, others);
    }

    /// <summary>
    /// Cross-entropy of each next token of contexts for all of which the residual stream is the same: what is predicted
    /// depends on the position alone.
    /// </summary>
    /// <param name="model">The model whose unembedding is used.</param>
    /// <param name="residTD">The residual stream after the last block.</param>
    /// <param name="contexts">T ids each.</param>
    /// <returns>T - 1 a context, nats.</returns>
    public static unsafe double[][] LossesOfSharedStream(
        Transformer model,
        Tensor residTD,
        IReadOnlyList<int[]> contexts
    )
    {
        ArgumentNullException.ThrowIfNull(model);
        ArgumentNullException.ThrowIfNull(residTD);
        ArgumentNullException.ThrowIfNull(contexts);
        using var scope = NewDisposeScope();
        int vocabulary = model.Config.Vocabulary;
        double[][] losses = [.. contexts.Select(tokens => new double[tokens.Length - 1])];
        foreach (var (first, rowsRD) in Chunks(model, residTD.narrow(0, 0, residTD.shape[0] - 1)))
        {
            using var chunk = NewDisposeScope();
            var logProbabilitiesRV = model.Unembed(rowsRD).log_softmax(-1).cpu();
            float* values = CpuKernels.Floats(logProbabilitiesRV);
            for (int context = 0; context < contexts.Count; context++)
            {
                for (long row = 0; row < rowsRD.shape[0]; row++)
                {
                    losses[context][first + row] = -values[(row * vocabulary) + contexts[context][first + row + 1]];
                }
            }
        }
        return losses;
    }

    /// <summary>The plain form: log-softmaxes as tensors, on any device.</summary>
    internal static (double[] LossR, Func<Tensor, (double[] LossR, double[] DivergenceR)> Score) ByTensors(
        Tensor cleanLogitsRV,
        Tensor targetsR
    )
    {
        var targetsR1 = targetsR.unsqueeze(1);
        var cleanRV = cleanLogitsRV.log_softmax(-1);
        cleanLogitsRV.Dispose();
        return (Loss(cleanRV), Score);

        (double[] LossR, double[] DivergenceR) Score(Tensor logitsRV)
        {
            var otherRV = logitsRV.log_softmax(-1);
            logitsRV.Dispose();
            using var probabilitiesRV = cleanRV.exp();
            using var differenceRV = cleanRV - otherRV;
            var divergenceR = probabilitiesRV.mul_(differenceRV).sum(-1, type: float64);
            return (Loss(otherRV), CpuKernels.ToArray<double>(divergenceR));
        }

        double[] Loss(Tensor logProbabilitiesRV) =>
            CpuKernels.ToArray<double>(-logProbabilitiesRV.gather(1, targetsR1).squeeze(1).to(float64));
    }

    /// <summary>The same on the CPU without further matrices of the logits' size; rows in parallel.</summary>
    internal static unsafe (double[] LossR, Func<Tensor, (double[] LossR, double[] DivergenceR)> Score) ByKernel(
        Tensor cleanLogitsRV,
        Tensor targetsR
    )
    {
        long[] targets = CpuKernels.ToArray<long>(targetsR);
        int vocabulary = (int)cleanLogitsRV.shape[1];
        float* clean = CpuKernels.Floats(cleanLogitsRV);
        double[] cleanLogSumR = new double[targets.Length];
        double[] cleanLossR = new double[targets.Length];
        Pieces.Run(
            targets.Length,
            StretchRows,
            get_num_threads(),
            row =>
            {
                cleanLogSumR[row] = LogitKernel.LogSumExp(Row(clean, row));
                cleanLossR[row] = cleanLogSumR[row] - Row(clean, row)[(int)targets[row]];
            }
        );
        return (cleanLossR, Score);

        (double[] LossR, double[] DivergenceR) Score(Tensor logitsRV)
        {
            double[] lossR = new double[targets.Length];
            double[] divergenceR = new double[targets.Length];
            float* other = CpuKernels.Floats(logitsRV);
            Pieces.Run(
                targets.Length,
                StretchRows,
                get_num_threads(),
                row =>
                {
                    var cleanV = Row(clean, row);
                    var otherV = Row(other, row);
                    double logSum = LogitKernel.LogSumExp(otherV);
                    lossR[row] = logSum - otherV[(int)targets[row]];
                    divergenceR[row] = LogitKernel.Divergence(cleanV, cleanLogSumR[row], otherV, logSum);
                }
            );
            return (lossR, divergenceR);
        }

        ReadOnlySpan<float> Row(float* values, int row) => new(values + ((long)row * vocabulary), vocabulary);
    }

    private static unsafe Tensor LossesByKernel(Tensor logitsRV, long[] targets)
    {
        int vocabulary = (int)logitsRV.shape[1];
        float* logits = CpuKernels.Floats(logitsRV);
        float[] lossR = new float[targets.Length];
        Pieces.Run(
            targets.Length,
            StretchRows,
            get_num_threads(),
            row =>
            {
                var rowV = new ReadOnlySpan<float>(logits + ((long)row * vocabulary), vocabulary);
                lossR[row] = (float)(LogitKernel.LogSumExp(rowV) - rowV[(int)targets[row]]);
            }
        );
        return tensor(lossR);
    }

    /// <summary>Rows that predict something.</summary>
    private static Tensor RowsRD(Tensor residBTD) =>
        residBTD.narrow(1, 0, residBTD.shape[1] - 1).reshape(-1, residBTD.shape[2]);

    /// <summary>What comes next after each of them.</summary>
    private static Tensor TargetsR(Tensor tokensBT) => tokensBT.narrow(1, 1, tokensBT.shape[1] - 1).reshape(-1);

    /// <summary>Rows few enough at a time for their logits.</summary>
    private static IEnumerable<(long First, Tensor RowsRD)> Chunks(Transformer model, Tensor rowsRD)
    {
        long chunk = RowsAtATime(model.Config.Vocabulary);
        for (long first = 0; first < rowsRD.shape[0]; first += chunk)
        {
            yield return (first, rowsRD.narrow(0, first, Math.Min(chunk, rowsRD.shape[0] - first)));
        }
    }
}
