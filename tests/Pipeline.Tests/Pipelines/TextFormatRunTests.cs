using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Pipeline.Shared.Text;
using Pipeline.Tests.Text;

namespace Pipeline.Tests.Pipelines;

/// <summary>
/// A harvest of the shipped model from every format of text: real Wikipedia where there is some, else made from it.
/// <c>PIPELINE_RUN_TOKENS=N</c> asks for N tokens of each (16,000 without it), or what the text has.
/// </summary>
public sealed class TextFormatRunTests : IDisposable
{
    private const double HeldOut = 0.3;

    private static readonly int Tokens = int.TryParse(
        Environment.GetEnvironmentVariable("PIPELINE_RUN_TOKENS"),
        CultureInfo.InvariantCulture,
        out int wanted
    )
        ? wanted
        : 16_000;

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData(
        "MediaWiki XML, bzip2",
        "mediawiki_xml/enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2"
    )]
    [InlineData("MediaWiki XML", "mediawiki_xml/Wikipedia-20171220131118.xml")]
    [InlineData("WikiExtractor", "enwiki2015/AA")]
    [InlineData("WikiText", "wikitext2/wiki.test.raw")]
    [InlineData("Parquet", "")]
    [InlineData("FEVER", "")]
    [InlineData("JSON lines, zstd", "")]
    public void Every_format_is_harvested(string format, string sample)
    {
        string text =
            sample.Length > 0
                ? TestData.Require(["data", "wikipedia", .. sample.Split('/')])
                : Generate(format, Articles());

        var clock = Stopwatch.StartNew();
        var result = SaeProcess.Run(
            "run",
            "pipelines/wikipedia.yaml",
            "--only",
            "harvest",
            "--out",
            folder["run"],
            "--set",
            $"text={text}",
            "--set",
            string.Create(CultureInfo.InvariantCulture, $"harvest.tokens={Tokens}"),
            "--set",
            string.Create(CultureInfo.InvariantCulture, $"harvest.heldOut={HeldOut}")
        );
        clock.Stop();

        result.ExitCode.Should().Be(0, result.Error);
        var manifest = JsonNode.Parse(File.ReadAllText(folder["run", "harvest", "manifest.json"]))!;
        var figures = manifest["results"]!;
        long tokens = figures["tokens"]!.GetValue<long>();
        int documents = figures["documents"]!.GetValue<int>();
        documents.Should().BePositive();
        tokens.Should().BeInRange(15_000, Tokens);
        double megabytes = BytesOf(text, documents) / 1e6;
        TestContext.Current.SendDiagnosticMessage(
            string.Create(
                CultureInfo.InvariantCulture,
                $"| {format} | {documents} | {tokens} | {megabytes:F2} | {clock.Elapsed.TotalSeconds:F1} | {megabytes / clock.Elapsed.TotalSeconds:F3} |"
            )
        );
    }

    /// <summary>Bytes of the first documents that are not held out: what the harvest read.</summary>
    private static long BytesOf(string text, int documents) =>
        TextSources
            .Open(text, "test")
            .Read()
            .Where(document => !DocumentSplit.IsHeldOut(document, HeldOut))
            .Take(documents)
            .Sum(document => (long)Encoding.UTF8.GetByteCount(document.Text));

    /// <summary>Enough of them for the tokens, which have four or five characters.</summary>
    private static List<Document> Articles()
    {
        var articles = new List<Document>();
        long characters = 0;
        foreach (
            var article in TextSources
                .Open(TestData.Require("data", "wikipedia", "enwiki2015", "AA"), "test")
                .Read()
                .TakeWhile(_ => articles.Count < 30 || characters < 8L * Tokens)
        )
        {
            articles.Add(article);
            characters += article.Text.Length;
        }
        return articles;
    }

    private string Generate(string format, List<Document> articles)
    {
        if (format == "Parquet")
        {
            TextFiles.WriteParquet(folder["train-00000-of-00001.parquet"], articles);
            return folder["train-00000-of-00001.parquet"];
        }
        if (format == "FEVER")
        {
            return folder.Write("wiki-001.jsonl", TextFiles.Fever(articles));
        }
        string path = folder["articles.jsonl.zst"];
        TempFolder.Overwrite(path, TextFiles.Compress(TextFiles.JsonLines(articles), ".zst"));
        return path;
    }
}
