using System.Globalization;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Activations;

/// <summary>
/// All shards of one hook as one table of rows in harvest order, [N, D]. How the rows are divided among shards shows
/// nowhere outside.
/// </summary>
public sealed class ActivationDataset : IDisposable
{
    private readonly ActivationShard[] shards;
    private readonly long[] firstRows;

    private ActivationDataset(ActivationShard[] shards)
    {
        this.shards = shards;
        firstRows = new long[shards.Length];
        foreach (int i in Enumerable.Range(0, shards.Length))
        {
            firstRows[i] = Rows;
            Rows += shards[i].Rows;
        }
    }

    public IReadOnlyList<ActivationShard> Shards => shards;

    /// <summary>N, rows of all shards.</summary>
    public long Rows { get; }

    /// <summary>D, values a row.</summary>
    public int Width => shards[0].Width;

    /// <summary>The hook's resolved name.</summary>
    public string Hook => shards[0].Metadata.Hook;

    /// <summary>Opens the shards of <paramref name="hook"/> that the manifest of a harvest folder lists, in name order.</summary>
    /// <param name="harvestFolder">The folder with the manifest.</param>
    /// <param name="hook">The hook's resolved name, also its subfolder's.</param>
    /// <param name="rehash">Whether to read every shard and compare its hash first; otherwise lengths are compared.</param>
    /// <exception cref="CorruptArtifactException">The manifest or a shard is missing or altered.</exception>
    public static ActivationDataset OpenHarvest(string harvestFolder, string hook, bool rehash = true)
    {
        string manifestPath = Path.Combine(harvestFolder, Manifest.FileName);
        var manifest =
            Manifest.TryRead(harvestFolder)
            ?? throw Corrupt(manifestPath, "no file", "the manifest of a finished harvest", "Run harvest");
        var own = manifest with
        {
            Outputs =
            [
                .. manifest
                    .Outputs.Where(o => o.Name.StartsWith(hook + "/", StringComparison.Ordinal))
                    .Where(o => o.Name.EndsWith(".arrow", StringComparison.Ordinal))
                    .OrderBy(o => o.Name, StringComparer.Ordinal),
            ],
        };
        if (own.Outputs.Count == 0)
        {
            throw Corrupt(
                manifestPath,
                $"no shard of {hook}",
                $"one or more outputs named {hook}/*.arrow",
                "Add the hook to harvest.hooks and run harvest again"
            );
        }
        if (own.Verify(harvestFolder, rehash) is [var fault, ..])
        {
            throw new CorruptArtifactException(fault.ToString());
        }
        return Open(own.Outputs.Select(o => Path.Combine(harvestFolder, o.Name)));
    }

    /// <summary>Opens shards in the given order, checking their structure and that they belong together.</summary>
    /// <exception cref="CorruptArtifactException">A shard is missing, malformed, or from another hook, model or stored type.</exception>
    public static ActivationDataset Open(IEnumerable<string> paths)
    {
        ArgumentNullException.ThrowIfNull(paths);
        var shards = new List<ActivationShard>();
        try
        {
            foreach (string path in paths)
            {
                shards.Add(ActivationShard.Open(path));
                RequireSameSource(shards[0], shards[^1]);
            }
            if (shards.Count == 0)
            {
                throw new ArgumentException("A dataset has at least one shard.", nameof(paths));
            }
            return new ActivationDataset([.. shards]);
        }
        catch
        {
            shards.ForEach(shard => shard.Dispose());
            throw;
        }
    }

    /// <summary>Copies rows [firstRow, firstRow + count), widened to float32.</summary>
    /// <param name="firstRow">From 0.</param>
    /// <param name="count">Rows, n.</param>
    /// <param name="destinationND">Row-major [n, D].</param>
    public void CopyRows(long firstRow, int count, Span<float> destinationND)
    {
        foreach (var (shard, first, n) in Pieces(firstRow, count))
        {
            shard.CopyRows(first, n, destinationND);
            destinationND = destinationND[(n * Width)..];
        }
    }

    public void Dispose() => Array.ForEach(shards, shard => shard.Dispose());

    /// <summary>Says where rows [firstRow, firstRow + n) lie, and brings them into the page cache.</summary>
    internal void Locate(long firstRow, Span<StoredRow> rowsN)
    {
        foreach (var (shard, first, n) in Pieces(firstRow, rowsN.Length))
        {
            shard.Locate(first, rowsN[..n]);
            rowsN = rowsN[n..];
        }
    }

    /// <summary>Widens located rows to float32.</summary>
    /// <param name="rowsN">Of this dataset.</param>
    /// <param name="destinationND">Row-major [n, D].</param>
    internal void Widen(ReadOnlySpan<StoredRow> rowsN, Span<float> destinationND) =>
        shards[0].Widen(rowsN, destinationND);

    /// <summary>Rows [firstRow, firstRow + count) shard by shard.</summary>
    private IEnumerable<(ActivationShard Shard, int FirstRow, int Count)> Pieces(long firstRow, int count)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstRow + count, Rows, nameof(count));
        int found = Array.BinarySearch(firstRows, firstRow);
        for (int s = found >= 0 ? found : ~found - 1; count > 0; s++)
        {
            int inShard = (int)(firstRow - firstRows[s]);
            int n = Math.Min(count, shards[s].Rows - inShard);
            yield return (shards[s], inShard, n);
            firstRow += n;
            count -= n;
        }
    }

    private static void RequireSameSource(ActivationShard first, ActivationShard other)
    {
        var (a, b) = (first.Metadata, other.Metadata);
        if ((a.Hook, a.WeightHash, a.DModel, first.Dtype) != (b.Hook, b.WeightHash, b.DModel, other.Dtype))
        {
            throw Corrupt(
                other.Path,
                Describe(other),
                $"{Describe(first)}, as in {first.Path}",
                "Run harvest again into an empty folder"
            );
        }
    }

    private static string Describe(ActivationShard shard) =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{shard.Metadata.Hook} of width {shard.Width}, {Spelling.Of(shard.Dtype)}, weights {shard.Metadata.WeightHash}"
        );

    private static CorruptArtifactException Corrupt(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
