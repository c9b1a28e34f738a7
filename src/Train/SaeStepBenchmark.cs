using System.Text.Json.Nodes;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Configuration;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// One TopK training step on random activations, beside its bound measured in the same process: the encoder's GEMM, and one
/// pass of Adam over memory (four arrays of the size of the weights read, three written).
/// </summary>
public static class SaeStepBenchmark
{
    /// <summary>Bytes Adam must move a weight, in units of a copy's (one read, one write).</summary>
    private const double CopiesPerAdamPass = 3.5;

    /// <summary>Rows of the bound's GEMM at a time: all pre-activations at once would need more memory than training does.</summary>
    private const int ChunkRows = 256;

    /// <param name="width">D.</param>
    /// <param name="features">F.</param>
    /// <param name="k">K.</param>
    /// <param name="batch">B.</param>
    /// <param name="repeats">Measured steps, at least 5.</param>
    /// <returns>
    /// median_ms, bound_ms, ratio, gemm_ms, adam_pass_ms, tokens_per_s, the shape, and peak_rss_mb with the memory the bound takes,
    /// training_peak_rss_mb without.
    /// </returns>
    public static JsonObject Run(int width, int features, int k, int batch, int repeats)
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var xBD = randn(batch, width);
        var sae = new SaeConfig
        {
            Architecture = Architecture.TopK,
            Features = features,
            K = k,
        };
        using var trainer = new SaeTrainer(
            SaeLearners.Recipe(sae) with
            {
                DeadAfter = long.MaxValue,
            },
            SaeLearners.New(sae, new TrainingBatch(xBD), 1, repeats)
        );
        double step = Stopclock.MedianMilliseconds(repeats, () => trainer.TrainOneStep(xBD, 1e-4));
        double trainingRss = Stopclock.PeakMegabytes; // before the bound takes memory of its own

        using var none = no_grad();
        var weightDF = randn(features, width).t();
        var productRF = empty(Math.Min(batch, ChunkRows), features);
        double gemm = Stopclock.MedianMilliseconds(repeats, () => EncodeInChunks(xBD, weightDF, productRF));
        var source = randn(2, features, width);
        var target = empty_like(source);
        double adam = CopiesPerAdamPass * Stopclock.MedianMilliseconds(repeats, () => target.copy_(source));
        double bound = gemm + adam;
        return Stopclock.Report(
            new JsonObject
            {
                ["d_model"] = width,
                ["features"] = features,
                ["k"] = k,
                ["batch"] = batch,
                ["repeats"] = repeats,
            },
            step,
            bound,
            new JsonObject
            {
                ["gemm_ms"] = gemm,
                ["adam_pass_ms"] = adam,
                ["tokens_per_s"] = batch / step * 1000,
                ["training_peak_rss_mb"] = trainingRss,
            }
        );
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
}
