using Pipeline.Shared.Hub;

namespace Pipeline.Shared.Text;

/// <summary>Opens a text source by what lies at its path.</summary>
public static class TextSources
{
    private const string Supported =
        "*.jsonl or *.json of {id,title,text}, *.parquet with these columns, MediaWiki dumps (*.xml), FEVER's wiki-NNN.jsonl, "
        + "WikiExtractor files (wiki_NN), WikiText (*.raw, *.tokens), *.txt, each also with .gz, .bz2 or .zst (Parquet "
        + "compresses by itself), or a folder of one of these";

    /// <summary><see cref="Fetch"/> where nobody watches or stops it.</summary>
    public static ITextSource Open(string path, string where) =>
        Fetch(path, where, new NoProgress(), CancellationToken.None);

    /// <param name="path">A file, a folder or an <c>hf://</c> name.</param>
    /// <param name="where">File and field that named the path, for the message.</param>
    /// <param name="progress">Told of what is fetched for an <c>hf://</c> name.</param>
    /// <param name="cancel">Stops fetching; what arrived is kept.</param>
    /// <exception cref="ConfigurationException">Nothing there, or nothing this project reads.</exception>
    /// <exception cref="PipelineException">As <see cref="HubFolder.Fetch"/>.</exception>
    public static ITextSource Fetch(string path, string where, IProgressSink progress, CancellationToken cancel)
    {
        // Of the hub what was asked for: its folder in the cache holds what others asked for, too.
        IReadOnlyList<string> files =
            HubFolder.IsHubUrl(path) ? HubFolder.Fetch(path, progress, cancel).Files
            : Directory.Exists(path)
                ? [.. Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)]
            : File.Exists(path) ? [path]
            : throw Refuse(where, $"'{path}', which does not exist", $"a text source: {Supported}", "Check the path");
        (string Format, ITextSource Source)[] candidates =
        [
            ("JSON lines", new JsonLinesSource([.. files.Where(JsonLinesSource.Reads)])),
            ("FEVER", new FeverSource([.. files.Where(FeverSource.Reads)])),
            ("Parquet", new ParquetSource([.. files.Where(ParquetSource.Reads)])),
            ("MediaWiki XML", new MediaWikiSource([.. files.Where(MediaWikiSource.Reads)])),
            ("JSON", new JsonArraySource([.. files.Where(JsonArraySource.Reads)])),
            ("WikiExtractor", new WikiExtractorSource([.. files.Where(WikiExtractorSource.Reads)])),
            ("WikiText", new WikiTextSource([.. files.Where(WikiTextSource.Reads)])),
            ("plain text", new PlainTextSource([.. files.Where(PlainTextSource.Reads)])),
        ];
        (string Format, ITextSource Source)[] usable = [.. candidates.Where(entry => entry.Source.Files.Count > 0)];
        if (usable.Length == 0)
        {
            throw Refuse(where, $"'{path}'", $"a text source: {Supported}", "Convert the text to one of these");
        }
        if (usable.Length > 1)
        {
            string each = string.Join(", ", usable.Select(entry => $"{entry.Source.Files[0]} ({entry.Format})"));
            throw Refuse(
                where,
                $"'{path}', a folder that mixes formats: {each}",
                $"files of one format: {Supported}",
                "Name a folder or file that holds one format; of JSON lines, the first object says whether they are FEVER's"
            );
        }
        var source = usable[0].Source;
        var copies = source.Files.GroupBy(TextFile.PlainPath).FirstOrDefault(same => same.Count() > 1);
        return copies is null
            ? source
            : throw Refuse(
                where,
                $"{string.Join(" and ", copies)}, which say that they are the same text",
                "each document once",
                "Remove one of them, or rename it if it is another text"
            );
    }

    private static ConfigurationException Refuse(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
