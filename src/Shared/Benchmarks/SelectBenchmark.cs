using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Benchmarks;

/// <summary>
/// Exact top-k of each row of scores, and the k·B largest of all of them, each beside torch.topk. Bound: one reading of the
/// scores (their maximum).
/// </summary>
public static class SelectBenchmark
{
    /// <param name="rows">B.</param>
    /// <param name="features">F, scores a row.</param>
    /// <param name="k">K, kept of each row.</param>
    /// <param name="repeats">Measured rounds.</param>
    /// <returns>The figures for rows; with the prefix global_ those for all of them together.</returns>
    public static JsonObject Run(int rows, int features, int k, int repeats)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        manual_seed(1);
        var scoresBF = randn(rows, features);
        var global = new Global(scoresBF.data<float>().ToArray(), rows, features, k);
        float[] scores = global.Scores;
        var bias = new float[features];
        var indices = new int[k];
        var values = new float[k];

        double select = Stopclock.MedianMilliseconds(
            repeats,
            () => ForEachRow(row => TopKSelect.Positive(row, bias, indices, values, Simd.Best))
        );
        double bound = Stopclock.MedianMilliseconds(repeats, () => ForEachRow(row => (int)TensorPrimitives.Max(row)));
        double torch = TorchTopK(scoresBF, k, repeats);
        double together = Stopclock.MedianMilliseconds(repeats, global.Select);
        double torchTogether = TorchTopK(scoresBF.flatten(), rows * k, repeats);
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
                ["global_ms"] = together,
                ["global_torch_topk_ms"] = torchTogether,
                ["global_times_faster_than_torch"] = torchTogether / together,
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

    private static double TorchTopK(Tensor scores, int k, int repeats) =>
        Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                using var inner = NewDisposeScope();
                scores.topk(k, -1, sorted: false);
            }
        );

    /// <summary>BatchTopK's selection, rows in parallel.</summary>
    private sealed class Global(float[] scores, int rows, int features, int k)
    {
        private readonly BatchSelect select = new(rows);
        private readonly float[] bias = new float[features];
        private readonly int[] firstB = new int[rows];
        private readonly int[] endB = new int[rows];
        private readonly int[] indices = new int[rows * k];
        private readonly float[] values = new float[rows * k];

        public float[] Scores => scores;

        public void Select()
        {
            var parallel = new ParallelOptions { MaxDegreeOfParallelism = get_num_threads() };
            select.Guess(scores.AsSpan(0, Math.Min(rows, BatchSelect.SampledRows) * features), bias, k);
            do
            {
                Parallel.For(
                    0,
                    rows,
                    parallel,
                    row => select.Collect(row, scores.AsSpan(row * features, features), bias, Simd.Best)
                );
            } while (select.NeedsAnotherPass(rows * k));
            select.Choose(rows * k, firstB, endB, indices, values);
        }
    }
}
