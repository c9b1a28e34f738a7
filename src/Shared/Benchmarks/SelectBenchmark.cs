using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Benchmarks;

/// <summary>Exact top-k of each row of scores, beside torch.topk. Bound: one reading of the scores (their maximum).</summary>
public static class SelectBenchmark
{
    /// <param name="rows">B.</param>
    /// <param name="features">F, scores a row.</param>
    /// <param name="k">K, kept of each row.</param>
    /// <param name="repeats">Measured rounds.</param>
    public static JsonObject Run(int rows, int features, int k, int repeats)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        manual_seed(1);
        var scoresBF = randn(rows, features);
        float[] scores = scoresBF.data<float>().ToArray();
        float[] bias = new float[features];
        int[] indices = new int[k];
        float[] values = new float[k];

        double select = Stopclock.MedianMilliseconds(
            repeats,
            () => ForEachRow(row => TopKSelect.Positive(row, bias, indices, values, Simd.Best))
        );
        double bound = Stopclock.MedianMilliseconds(repeats, () => ForEachRow(row => (int)TensorPrimitives.Max(row)));
        double torch = Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                using var inner = NewDisposeScope();
                scoresBF.topk(k, -1, sorted: false);
            }
        );
        return Stopclock.Report(
            new JsonObject
            {
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
            }
        );

        void ForEachRow(Func<ReadOnlySpan<float>, int> action)
        {
            for (int row = 0; row < rows; row++)
            {
                action(scores.AsSpan(row * features, features));
            }
        }
    }
}
