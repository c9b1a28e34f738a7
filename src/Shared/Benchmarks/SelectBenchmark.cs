using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Benchmarks;

/// <summary>
/// Exact top-k of each row of scores, and the k·B largest of all of them, each beside torch.topk. Bound: one reading of the
/// scores (their maximum). BatchTopK never has all scores: what its selection takes is the time of the whole screening less
/// that of its products alone.
/// </summary>
public static class SelectBenchmark
{
    /// <summary>A bias that nothing passes with, so that screening does its products and no more.</summary>
    private const float NothingPasses = -1e30f;

    /// <summary>Rows that a thread takes at a time, at most.</summary>
    private const int StretchRows = 16;

    /// <param name="width">D.</param>
    /// <param name="rows">B.</param>
    /// <param name="features">F, scores a row.</param>
    /// <param name="k">K, kept of each row.</param>
    /// <param name="repeats">Measured rounds.</param>
    /// <returns>
    /// The figures for rows; those of screening, scored_in_float32 a row among them; with the prefix global_ those for all rows
    /// together.
    /// </returns>
    public static JsonObject Run(int width, int rows, int features, int k, int repeats)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        manual_seed(1);
        var xBD = randn(rows, width);
        var W_encFD = randn(features, width) / Math.Sqrt(width);
        using var screening = new Screening(xBD, W_encFD, k);
        double screened = Stopclock.MedianMilliseconds(repeats, () => screening.Run(overBatch: false));
        double scored = screening.Scored / (double)rows;
        double together = Stopclock.MedianMilliseconds(repeats, () => screening.Run(overBatch: true));
        using var productsOnly = new Screening(xBD, W_encFD, k, NothingPasses);
        double products = Stopclock.MedianMilliseconds(repeats, () => productsOnly.Run(overBatch: true));

        var scoresBF = xBD.matmul(W_encFD.t());
        double torch = TorchTopK(scoresBF, k, repeats);
        double torchTogether = TorchTopK(scoresBF.flatten(), rows * k, repeats);
        double select = Stopclock.MedianMilliseconds(repeats, () => TopKOfEachRow(scoresBF, k));
        double bound = Stopclock.MedianMilliseconds(repeats, () => LargestOfEachRow(scoresBF));
        return Stopclock.Report(
            new JsonObject
            {
                ["d_model"] = width,
                ["batch"] = rows,
                ["features"] = features,
                ["k"] = k,
                ["repeats"] = repeats,
            },
            select,
            bound,
            new JsonObject
            {
                ["torch_topk_ms"] = torch,
                ["times_faster_than_torch"] = torch / select,
                ["rows_per_s"] = rows / select * 1000,
                ["products_ms"] = products,
                ["screened_ms"] = screened,
                ["scored_in_float32"] = scored,
                ["global_screened_ms"] = together,
                ["global_select_ms"] = together - products,
                ["global_torch_topk_ms"] = torchTogether,
                ["global_times_faster_than_torch"] = torchTogether / Math.Max(together - products, 1e-3),
            }
        );
    }

    private static double TorchTopK(Tensor scores, int k, int repeats) =>
        Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                using var inner = NewDisposeScope();
                scores.topk(k, -1, sorted: false);
            }
        );

    private static unsafe void TopKOfEachRow(Tensor scoresBF, int k)
    {
        int features = (int)scoresBF.shape[1];
        var bias = new float[features];
        float* scores = CpuKernels.Floats(scoresBF);
        Pieces.Run(
            (int)scoresBF.shape[0],
            StretchRows,
            get_num_threads(),
            () => (Indices: new int[k], Values: new float[k]),
            (first, count, kept) =>
            {
                for (int row = first; row < first + count; row++)
                {
                    var rowScores = new ReadOnlySpan<float>(scores + ((long)row * features), features);
                    TopKSelect.Positive(rowScores, bias, kept.Indices, kept.Values, Simd.Best);
                }
            },
            _ => { }
        );
    }

    private static unsafe void LargestOfEachRow(Tensor scoresBF)
    {
        int features = (int)scoresBF.shape[1];
        float* scores = CpuKernels.Floats(scoresBF);
        Pieces.Run(
            (int)scoresBF.shape[0],
            StretchRows,
            get_num_threads(),
            row => TensorPrimitives.Max(new ReadOnlySpan<float>(scores + ((long)row * features), features))
        );
    }

    /// <summary>The selection of a training step.</summary>
    private sealed unsafe class Screening : IDisposable
    {
        private readonly EncoderScreen screen;
        private readonly SparseRows kept;
        private readonly Tensor xBD;
        private readonly int k;

        public Screening(Tensor xBD, Tensor W_encFD, int k, float bias = 0)
        {
            (this.xBD, this.k) = (xBD, k);
            var (features, width) = ((int)W_encFD.shape[0], (int)W_encFD.shape[1]);
            screen = new EncoderScreen(width, features, Simd.Best);
            kept = new SparseRows((int)xBD.shape[0], (int)xBD.shape[0] * k);
            using var b_encF = full([features], bias);
            screen.Load(CpuKernels.Floats(W_encFD), CpuKernels.Floats(b_encF), get_num_threads());
        }

        public long Scored => screen.Rescored;

        public void Run(bool overBatch)
        {
            if (overBatch)
            {
                screen.SelectOverBatch(CpuKernels.Floats(xBD), k, get_num_threads(), kept);
            }
            else
            {
                screen.SelectOfEachRow(CpuKernels.Floats(xBD), k, get_num_threads(), kept);
            }
        }

        public void Dispose() => screen.Dispose();
    }
}
