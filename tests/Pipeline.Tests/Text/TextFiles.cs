using System.IO.Compression;
using System.Net;
using System.Text;
using System.Text.Json;
using ICSharpCode.SharpZipLib.BZip2;
using Parquet;
using Parquet.Schema;
using Pipeline.Shared.Text;
using ZstdSharp;

namespace Pipeline.Tests.Text;

/// <summary>Writes documents in the formats that text sources read.</summary>
internal static class TextFiles
{
    public static readonly string[] Compressions = ["", ".gz", ".bz2", ".zst"];

    private static readonly string[] Columns = ["id", "url", "title", "text"];

    public static string JsonLines(IEnumerable<Document> documents) =>
        string.Concat(documents.Select(document => JsonSerializer.Serialize(Fields(document)) + "\n"));

    public static string JsonArray(IEnumerable<Document> documents) =>
        JsonSerializer.Serialize(documents.Select(Fields));

    public static string WikiExtractor(IEnumerable<Document> documents) =>
        string.Concat(
            documents.Select(document =>
                $"<doc id=\"{document.Id}\" url=\"u\" title=\"{WebUtility.HtmlEncode(document.Title)}\">\n"
                + $"{WebUtility.HtmlEncode(document.Title)}\n\n{WebUtility.HtmlEncode(document.Text)}\n</doc>\n"
            )
        );

    /// <summary>A paragraph a sentence, which FEVER's are not.</summary>
    public static string Fever(IEnumerable<Document> documents) =>
        string.Concat(
            documents.Select(document =>
                JsonSerializer.Serialize(
                    new Dictionary<string, string>
                    {
                        ["id"] = Bracketed(document.Title).Replace(' ', '_'),
                        ["text"] = Bracketed(document.Text),
                        ["lines"] = string.Join(
                            '\n',
                            Bracketed(document.Text)
                                .Split('\n')
                                .Select((line, i) => $"{i}\t{line.Replace('\t', ' ')}\tlink")
                        ),
                    }
                ) + "\n"
            )
        );

    /// <summary>A dump of pages whose texts are wikitext.</summary>
    public static string MediaWiki(IEnumerable<Document> documents) =>
        MediaWiki([
            .. documents.Select(document =>
                $"<title>{WebUtility.HtmlEncode(document.Title)}</title><ns>0</ns><id>{document.Id}</id>"
                + $"<revision><id>7</id><text>{WebUtility.HtmlEncode(document.Text)}</text></revision>"
            ),
        ]);

    /// <param name="pages">What stands between page and /page.</param>
    public static string MediaWiki(params string[] pages) =>
        "<mediawiki xmlns=\"http://www.mediawiki.org/xml/export-0.10/\"><siteinfo><namespaces>"
        + "<namespace key=\"0\" /><namespace key=\"1\">Talk</namespace><namespace key=\"6\">Datei</namespace>"
        + "</namespaces></siteinfo>\n"
        + string.Concat(pages.Select(page => $"<page>{page}</page>\n"))
        + "</mediawiki>\n";

    public static void WriteParquet(
        string path,
        IReadOnlyList<Document> documents,
        CompressionMethod compression = CompressionMethod.Snappy,
        int rowGroup = 1000
    )
    {
        using var stream = new FileStream(path, FileMode.Create, FileAccess.ReadWrite);
        WriteAsync().GetAwaiter().GetResult();

        async Task WriteAsync()
        {
            DataField[] fields = [.. Columns.Select(name => new DataField<string>(name))];
            await using var writer = await ParquetWriter.CreateAsync(
                new ParquetSchema(fields),
                stream,
                new ParquetOptions { CompressionMethod = compression }
            );
            foreach (var rows in documents.Chunk(rowGroup))
            {
                using var group = writer.CreateRowGroup();
                await group.WriteAsync(fields[0], (IReadOnlyCollection<string>)[.. rows.Select(row => row.Id)]);
                await group.WriteAsync(fields[1], (IReadOnlyCollection<string>)[.. rows.Select(_ => "u")]);
                await group.WriteAsync(fields[2], (IReadOnlyCollection<string>)[.. rows.Select(row => row.Title)]);
                await group.WriteAsync(fields[3], (IReadOnlyCollection<string>)[.. rows.Select(row => row.Text)]);
                group.CompleteValidate();
            }
        }
    }

    /// <summary>The bytes as a file of this ending holds them.</summary>
    public static byte[] Compress(byte[] bytes, string ending)
    {
        var compressed = new MemoryStream();
        using (
            Stream stream = ending switch
            {
                ".gz" => new GZipStream(compressed, CompressionLevel.Optimal, leaveOpen: true),
                ".bz2" => new BZip2OutputStream(compressed, 1) { IsStreamOwner = false },
                ".zst" => new CompressionStream(compressed, leaveOpen: true),
                _ => new BufferedStream(compressed),
            }
        )
        {
            stream.Write(bytes);
            stream.Flush();
            if (ending.Length == 0)
            {
                return compressed.ToArray();
            }
        }
        return compressed.ToArray();
    }

    public static byte[] Compress(string text, string ending) => Compress(Encoding.UTF8.GetBytes(text), ending);

    private static string Bracketed(string text) =>
        text.Replace("(", "-LRB-", StringComparison.Ordinal).Replace(")", "-RRB-", StringComparison.Ordinal);

    private static Dictionary<string, string> Fields(Document document) =>
        new()
        {
            ["id"] = document.Id,
            ["title"] = document.Title,
            ["text"] = document.Text,
        };
}
