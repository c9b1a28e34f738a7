namespace Pipeline.Shared.Text;

/// <summary>Opens a text source by what lies at its path.</summary>
public static class TextSources
{
    private const string Supported =
        "*.jsonl or *.json of {id,title,text}, *.parquet with these columns, MediaWiki dumps (*.xml), FEVER's wiki-NNN.jsonl, "
        + "WikiExtractor files (wiki_NN), WikiText (*.raw, *.tokens), *.txt, each also with .gz, .bz2 or .zst (Parquet "
        + "compresses by itself), or a folder of one of these";

    /// <param name="path">A file or a folder.</param>
    /// <param name="where">File and field that named the path, for the message.</param>
    /// <exception cref="ConfigurationException">Nothing there, or nothing this project reads.</exception>
    public static ITextSource Open(string path, string where)
    {
        string[] files = Directory.Exists(path)
            ? [.. Directory.EnumerateFiles(path, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal)]
            : [path];
        if (!Path.Exists(path))
        {
            throw Refuse(where, $"'{path}', which does not exist", $"a text source: {Supported}", "Check the path");
        }
        ITextSource[] candidates =
        [
            new JsonLinesSource([.. files.Where(JsonLinesSource.Reads)]),
            new FeverSource([.. files.Where(FeverSource.Reads)]),
            new ParquetSource([.. files.Where(ParquetSource.Reads)]),
            new MediaWikiSource([.. files.Where(MediaWikiSource.Reads)]),
            new JsonArraySource([.. files.Where(JsonArraySource.Reads)]),
            new WikiExtractorSource([.. files.Where(WikiExtractorSource.Reads)]),
            new WikiTextSource([.. files.Where(WikiTextSource.Reads)]),
            new PlainTextSource([.. files.Where(PlainTextSource.Reads)]),
        ];
        ITextSource[] usable = [.. candidates.Where(source => source.Files.Count > 0)];
        return usable.Length switch
        {
            1 => usable[0],
            0 => throw Refuse(where, $"'{path}'", $"a text source: {Supported}", "Convert the text to one of these"),
            _ => throw Refuse(
                where,
                $"'{path}', a folder that mixes formats",
                $"files of one format: {Supported}",
                "Name a folder or file that holds one format"
            ),
        };
    }

    private static ConfigurationException Refuse(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
