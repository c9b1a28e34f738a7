using System.Globalization;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Activations;

/// <summary>
/// All shards of one hook as one table of rows in harvest order, [N, D]. How the rows are divided among shards shows
/// nowhere outside.
/// </summary>
public sealed class ActivationDataset : IActivationRows, IDisposable
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
    /// <exception cref="CorruptArtifactException">A shard is missing, malformed, or from another hook or model.</exception>
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

    /// <inheritdoc/>
    public void CopyRows(long firstRow, int count, Span<float> destinationND)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(firstRow + count, Rows, nameof(count));
        int found = Array.BinarySearch(firstRows, firstRow);
        for (int s = found >= 0 ? found : ~found - 1; count > 0; s++)
        {
            int inShard = (int)(firstRow - firstRows[s]);
            int n = Math.Min(count, shards[s].Rows - inShard);
            shards[s].CopyRows(inShard, n, destinationND);
            destinationND = destinationND[(n * Width)..];
            firstRow += n;
            count -= n;
        }
    }

    public void Dispose() => Array.ForEach(shards, shard => shard.Dispose());

    private static void RequireSameSource(ActivationShard first, ActivationShard other)
    {
        var (a, b) = (first.Metadata, other.Metadata);
        if ((a.Hook, a.WeightHash, a.DModel) != (b.Hook, b.WeightHash, b.DModel))
        {
            throw Corrupt(
                other.Path,
                string.Create(CultureInfo.InvariantCulture, $"{b.Hook} of width {b.DModel}, weights {b.WeightHash}"),
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"{a.Hook} of width {a.DModel}, weights {a.WeightHash}, as in {first.Path}"
                ),
                "Run harvest again into an empty folder"
            );
        }
    }

    private static CorruptArtifactException Corrupt(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
