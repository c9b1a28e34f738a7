using Pipeline.Evaluate.Features;

namespace Pipeline.Evaluate.Report.Browser;

// evaluate/<hook>/<sae>/features/index.json ───────> FeatureColumns: an entry per latent
//                                block-00000.json ──> its described latents, a block at a time

/// <summary>What evaluation left about the latents of one SAE. Whatever is read is checked; every fault names file and field.</summary>
internal sealed class FeatureFiles
{
    private readonly string runFolder;
    private readonly string folder;
    private readonly string remedy;

    /// <summary>Blocks that a single latent was asked of: a few, and asked for again.</summary>
    private readonly Dictionary<int, JsonNodeReader> kept = [];

    private FeatureFiles(string runFolder, string folder, string remedy)
    {
        (this.runFolder, this.folder, this.remedy) = (runFolder, folder, remedy);
        Index = JsonNodeReader.Open(runFolder, $"{folder}/{FeatureDashboards.IndexName}", remedy);
        Columns = ReadColumns();
    }

    /// <summary>index.json as it is.</summary>
    public JsonNodeReader Index { get; }

    public FeatureColumns Columns { get; }

    /// <summary>Block files, numbered from 0.</summary>
    public int Blocks => Columns.Block.DefaultIfEmpty(-1).Max() + 1;

    /// <summary>Null where the SAE was evaluated without features, or by a version that kept them in another form.</summary>
    /// <param name="runFolder">The run.</param>
    /// <param name="hookAndSae"><c>hook/sae</c>.</param>
    /// <param name="remedy">What to do about a fault.</param>
    public static FeatureFiles? TryOpen(string runFolder, string hookAndSae, string remedy)
    {
        string folder = $"evaluate/{hookAndSae}/{FeatureDashboards.FolderName}";
        return File.Exists(Path.Combine(runFolder, folder, FeatureDashboards.IndexName))
            ? new FeatureFiles(runFolder, folder, remedy)
            : null;
    }

    /// <summary>A block file as it is, after a check of what a page relies on.</summary>
    public JsonNodeReader Block(int number) => kept.TryGetValue(number, out var block) ? block : ReadBlock(number);

    /// <summary>One described latent, or null for one that is not described. Its block is kept.</summary>
    public JsonNodeReader? Latent(int index)
    {
        int number = Columns.Block[index];
        if (number < 0)
        {
            return null;
        }
        if (!kept.TryGetValue(number, out var block))
        {
            block = ReadBlock(number);
            kept.Add(number, block);
        }
        return block.Required("latents").AsArray().Single(latent => latent.Required("index").AsInt32() == index);
    }

    /// <summary>Text around one token, with the latent's activation on each.</summary>
    public static FeatureExample ReadExample(JsonNodeReader example)
    {
        string[] tokens = [.. example.Required("tokens").AsArray().Select(t => t.AsString())];
        float[] activations = [.. example.Required("activations").AsArray().Select(a => (float)a.AsDouble())];
        int peak = example.Required("peak").AsInt32();
        if (tokens.Length != activations.Length)
        {
            throw example.Corrupt($"{tokens.Length} tokens and {activations.Length} activations", "one for each");
        }
        if (peak < 0 || peak >= tokens.Length)
        {
            throw example.Corrupt($"peak {peak}", $"the index of one of {tokens.Length} tokens");
        }
        return new FeatureExample(tokens, activations, peak);
    }

    private JsonNodeReader ReadBlock(int number)
    {
        var block = JsonNodeReader.Open(runFolder, $"{folder}/{FeatureDashboards.BlockName(number)}.json", remedy);
        var latents = block.Required("latents").AsArray();
        int[] indices = [.. latents.Select(latent => latent.Required("index").AsInt32())];
        int[] expected = [.. Enumerable.Range(0, Columns.Latents).Where(latent => Columns.Block[latent] == number)];
        if (!indices.Order().SequenceEqual(expected))
        {
            throw block.Corrupt(
                $"latents {Abridged(indices.Order())}",
                $"{Abridged(expected)}, as {FeatureDashboards.IndexName} has it for this block"
            );
        }
        foreach (var latent in latents)
        {
            Check(latent);
        }
        return block;
    }

    private FeatureColumns ReadColumns()
    {
        int latents = Index.Required("latents").AsInt32();
        var columns = Index.Required("columns");
        T[] Column<T>(string name, Func<JsonNodeReader, T> read)
        {
            var column = columns.Required(name);
            T[] values = [.. column.AsArray().Select(read)];
            return values.Length == latents
                ? values
                : throw column.Corrupt($"{values.Length} entries", $"one for each of {latents} latents");
        }
        foreach (string name in new[] { "mean_activation", "top_token" })
        {
            Column(name, entry => entry); // shown by the page alone
        }
        return new FeatureColumns(
            Index.Required("tokens").AsInt64(),
            Column("density", entry => entry.AsDouble()),
            Column("max_activation", entry => entry.AsDouble()),
            Column("dead", entry => entry.AsInt32() != 0),
            Column("dense", entry => entry.AsInt32() != 0),
            Column("n2g_f1", entry => entry.IsNull ? (double?)null : entry.AsDouble()),
            Column("block", entry => entry.AsInt32())
        );
    }

    private void Check(JsonNodeReader latent)
    {
        foreach (var example in latent.Required("top").AsArray())
        {
            ReadExample(example);
        }
        foreach (var band in latent.Required("quantiles").AsArray())
        {
            foreach (var example in band.Required("examples").AsArray())
            {
                ReadExample(example);
            }
        }
        foreach (string name in new[] { "nearest_cosine", "nearest_coactivation" })
        {
            foreach (var near in latent.Required(name).AsArray())
            {
                var other = near.Required("latent");
                if (other.AsInt32() is var index && (index < 0 || index >= Columns.Latents))
                {
                    throw other.Corrupt($"latent {index}", $"one of {Columns.Latents}");
                }
            }
        }
    }

    private static string Abridged(IEnumerable<int> indices)
    {
        int[] all = [.. indices];
        return all.Length == 0
            ? "none"
            : string.Join(", ", all.Take(5)) + (all.Length > 5 ? $", ... ({all.Length})" : "");
    }
}
