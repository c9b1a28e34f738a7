using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Benchmarks;

/// <summary>
/// Training's batches in their seeded order, from shards in the page cache. Bound: the same rows widened in the order they
/// lie in. Beside it the share of its time that a loop waits for batches which does the least a training step does with
/// them, the encoder's product with F = 8 D latents.
/// </summary>
public static class DatasetBenchmark
{
    /// <param name="folder">An empty folder for the shards; the caller removes it.</param>
    /// <param name="width">D.</param>
    /// <param name="rows">Rows in all.</param>
    /// <param name="batch">B, rows a batch.</param>
    /// <param name="dtype">Stored type.</param>
    /// <param name="repeats">Measured epochs.</param>
    public static JsonObject Run(string folder, int width, int rows, int batch, ActivationDtype dtype, int repeats)
    {
        using var dataset = ActivationDataset.Open(WriteShards(folder, width, rows, dtype));
        float[] batchBD = new float[batch * width];
        var cursor = NewCursor(dataset);
        int batches = rows / batch;
        var (shuffled, straight) = Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                for (int i = 0; i < batches; i++)
                {
                    cursor.NextBatch(batchBD);
                }
            },
            () =>
            {
                for (int i = 0; i < batches; i++)
                {
                    dataset.CopyRows((long)i * batch, batch, batchBD);
                }
            }
        );
        double read = (double)batches * batch;
        double waitShare = WaitShare(dataset, batch);
        return Stopclock.Report(
            new JsonObject
            {
                ["d_model"] = width,
                ["rows"] = rows,
                ["batch"] = batch,
                ["dtype"] = Spelling.Of(dtype),
                ["repeats"] = repeats,
            },
            shuffled,
            straight,
            new JsonObject
            {
                ["rows_per_s"] = read / shuffled * 1000,
                ["gb_per_s"] = read * width * sizeof(float) / shuffled / 1e6,
                ["wait_share"] = waitShare,
            }
        );
    }

    private static double WaitShare(ActivationDataset dataset, int batch)
    {
        const int Expansion = 8;
        const int WarmUps = 2;
        const int Steps = 16;
        using var none = no_grad();
        using var encoderDF = randn(dataset.Width, Expansion * dataset.Width);
        using var batches = new PrefetchingBatches([NewCursor(dataset)], batch);
        var before = TimeSpan.Zero;
        var clock = new Stopwatch();
        for (int step = 0; step < WarmUps + Steps; step++)
        {
            if (step == WarmUps)
            {
                before = batches.Waited;
                clock.Start();
            }
            using var preActsBF = batches.Next()[0].matmul(encoderDF);
        }
        return (batches.Waited - before) / clock.Elapsed;
    }

    private static ActivationCursor NewCursor(ActivationDataset dataset) =>
        new(dataset, RandomStreams.Derive(1, "bench", "order"));

    private static List<string> WriteShards(string folder, int width, int rows, ActivationDtype dtype)
    {
        const int ShardRows = 64_000;
        var random = new Xoshiro256(1);
        var paths = new List<string>();
        float[] rowsND = new float[1000 * width];
        for (int i = 0; i < rowsND.Length; i++)
        {
            rowsND[i] = (float)random.NextGaussian();
        }
        for (int first = 0; first < rows; first += ShardRows)
        {
            string name = string.Create(CultureInfo.InvariantCulture, $"shard-{paths.Count:D5}.arrow");
            var metadata = new ShardMetadata("bench", "", "blocks.0.hook_resid_post", "", 1, 1, first, width);
            using var writer = new ActivationShardWriter(Path.Combine(folder, name), dtype, metadata);
            for (int at = first; at < Math.Min(rows, first + ShardRows); at += 1000)
            {
                int n = Math.Min(1000, Math.Min(rows, first + ShardRows) - at);
                int[] numbers = new int[n];
                writer.Append(numbers, numbers, numbers, rowsND.AsSpan(0, n * width));
            }
            writer.Commit();
            paths.Add(Path.Combine(folder, name));
        }
        return paths;
    }
}
