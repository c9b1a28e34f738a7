using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Tests.Activations;

/// <summary>Shards whose rows say which row they are.</summary>
internal static class Shards
{
    public static ShardMetadata Metadata(int width, long first = 0, string hook = "blocks.1.hook_resid_post") =>
        new("data/model", "ab12", hook, "cd34", 128, 42, first, width);

    /// <summary>Row r, value j is normal with spread 3; token r, document r / 10, position r % 10.</summary>
    public static float[] Values(int rows, int width, ulong seed = 1)
    {
        var random = new Xoshiro256(seed);
        float[] values = new float[rows * width];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)(3 * random.NextGaussian());
        }
        return values;
    }

    public static FileDigest Write(
        string path,
        ActivationDtype dtype,
        ShardMetadata metadata,
        float[] values,
        int rowsACall = int.MaxValue
    )
    {
        int d = metadata.DModel;
        int rows = values.Length / d;
        using var writer = new ActivationShardWriter(path, dtype, metadata);
        for (int at = 0; at < rows; )
        {
            int n = Math.Min(rowsACall, rows - at);
            int[] tokens = [.. Enumerable.Range(at, n)];
            writer.Append(
                tokens,
                [.. tokens.Select(t => t / 10)],
                [.. tokens.Select(t => t % 10)],
                values.AsSpan(at * d, n * d)
            );
            at += n;
        }
        return writer.Commit();
    }

    /// <summary>What is left of values in a stored type, worked out one by one.</summary>
    public static float[] AsStored(float[] values, int d, ActivationDtype dtype) =>
        dtype switch
        {
            ActivationDtype.Float16 => Array.ConvertAll(values, x => (float)(Half)x),
            ActivationDtype.BFloat16 => Array.ConvertAll(values, NearestBFloat16),
            ActivationDtype.Int8 => [.. values.Chunk(d).SelectMany(NearestInt8)],
            _ => values,
        };

    /// <summary>Of the two neighbours with 16 zero bits, the nearer; of two as near, the one with an even last bit.</summary>
    private static float NearestBFloat16(float x)
    {
        uint below = BitConverter.SingleToUInt32Bits(x) & 0xFFFF_0000;
        uint above = below + 0x1_0000;
        double toBelow = Math.Abs((double)x - BitConverter.UInt32BitsToSingle(below));
        double toAbove = Math.Abs((double)x - BitConverter.UInt32BitsToSingle(above));
        bool even = (below & 0x1_0000) == 0;
        return BitConverter.UInt32BitsToSingle(toBelow < toAbove || (toBelow == toAbove && even) ? below : above);
    }

    private static IEnumerable<float> NearestInt8(float[] row)
    {
        float scale = row.Max(Math.Abs) / 127;
        return row.Select(x => MathF.Round(x * (1 / scale)) * scale);
    }

    /// <summary>A dataset of shards with the given numbers of rows; row r holds r in all its values.</summary>
    public static ActivationDataset Numbered(
        string folder,
        IEnumerable<int> shardRows,
        int width = 2,
        string hook = "blocks.1.hook_resid_post"
    )
    {
        var paths = new List<string>();
        int first = 0;
        foreach (int rows in shardRows)
        {
            string path = Path.Combine(folder, $"shard-{paths.Count:D5}-{Guid.NewGuid():N}.arrow");
            float[] values = [.. Enumerable.Range(first * width, rows * width).Select(i => (float)(i / width))];
            Write(path, ActivationDtype.Float32, Metadata(width, first, hook), values);
            paths.Add(path);
            first += rows;
        }
        return ActivationDataset.Open(paths);
    }
}
