using System.Diagnostics;
using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// One TopK training step on random activations, beside its bound measured in the same process: the encoder's GEMM, and one
/// pass of Adam over memory (four arrays of the size of the weights read, three written).
/// </summary>
public static class SaeStepBenchmark
{
    private const int WarmUps = 2;

    /// <summary>Small shapes need many steps before the JIT has compiled them for good.</summary>
    private static readonly TimeSpan WarmUpTime = TimeSpan.FromSeconds(1.5);

    /// <summary>Bytes Adam must move a weight, in units of a copy's (one read, one write).</summary>
    private const double CopiesPerAdamPass = 3.5;

    /// <param name="width">D.</param>
    /// <param name="features">F.</param>
    /// <param name="k">K.</param>
    /// <param name="batch">B.</param>
    /// <param name="repeats">Measured steps, at least 5.</param>
    /// <returns>median_ms, bound_ms, ratio, gemm_ms, adam_pass_ms, peak_rss_mb, tokens_per_s, and the shape.</returns>
    public static JsonObject Run(int width, int features, int k, int batch, int repeats)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var xBD = randn(batch, width);
        var recipe = new TopKRecipe
        {
            Features = features,
            K = k,
            AuxK = Math.Max(1, width / 2),
            AuxCoefficient = 1.0 / 32,
            DeadAfter = long.MaxValue,
            GradientClip = 1,
            Seed = 1,
        };
        using var trainer = new TopKTrainer(recipe, TopKTrainer.Initialize(recipe, xBD));
        double step = MedianMilliseconds(repeats, () => trainer.TrainOneStep(xBD, 1e-4));

        using var none = no_grad();
        var weightDF = randn(features, width).t();
        var productRF = empty(Math.Min(batch, TopKCpuGradients.ChunkRows), features);
        double gemm = MedianMilliseconds(repeats, () => EncodeInChunks(xBD, weightDF, productRF));
        var source = randn(2, features, width);
        var target = empty_like(source);
        double adam = CopiesPerAdamPass * MedianMilliseconds(repeats, () => target.copy_(source));
        double bound = gemm + adam;
        return new JsonObject
        {
            ["d_model"] = width,
            ["features"] = features,
            ["k"] = k,
            ["batch"] = batch,
            ["threads"] = get_num_threads(),
            ["repeats"] = repeats,
            ["median_ms"] = Math.Round(step, 3),
            ["bound_ms"] = Math.Round(bound, 3),
            ["ratio"] = Math.Round(step / bound, 3),
            ["gemm_ms"] = Math.Round(gemm, 3),
            ["adam_pass_ms"] = Math.Round(adam, 3),
            ["peak_rss_mb"] = Process.GetCurrentProcess().PeakWorkingSet64 / (1 << 20),
            ["tokens_per_s"] = Math.Round(batch / step * 1000),
        };
    }

    private static void EncodeInChunks(Tensor xBD, Tensor weightDF, Tensor productRF)
    {
        for (long first = 0; first < xBD.shape[0]; first += productRF.shape[0])
        {
            using var scope = NewDisposeScope();
            long rows = Math.Min(productRF.shape[0], xBD.shape[0] - first);
            productRF.narrow(0, 0, rows).addmm_(xBD.narrow(0, first, rows), weightDF, beta: 0, alpha: 1);
        }
    }

    private static double MedianMilliseconds(int repeats, Action action)
    {
        var warmUp = Stopwatch.StartNew();
        for (int i = 0; i < WarmUps || warmUp.Elapsed < WarmUpTime; i++)
        {
            action();
        }
        var times = new List<double>();
        for (int i = 0; i < repeats; i++)
        {
            var clock = Stopwatch.StartNew();
            action();
            times.Add(clock.Elapsed.TotalMilliseconds);
        }
        times.Sort();
        return times[times.Count / 2];
    }
}
