using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared.Text;
using Pipeline.Tests.Text;

namespace Pipeline.Tests.Pipelines;

/// <summary>A harvest of the shipped model from every format of text: real Wikipedia where there is some, else made from it.</summary>
public sealed class TextFormatRunTests : IDisposable
{
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
            "harvest.tokens=16k",
            "--set",
            "harvest.heldOut=0.3"
        );

        result.ExitCode.Should().Be(0, result.Error);
        var manifest = JsonNode.Parse(File.ReadAllText(folder["run", "harvest", "manifest.json"]))!;
        var figures = manifest["results"]!;
        long tokens = figures["tokens"]!.GetValue<long>();
        int documents = figures["documents"]!.GetValue<int>();
        documents.Should().BePositive();
        tokens.Should().BeInRange(15_000, 16_000);
        TestContext.Current.SendDiagnosticMessage(
            string.Create(CultureInfo.InvariantCulture, $"| {format} | {documents} | {tokens} |")
        );
    }

    private static List<Document> Articles() =>
        [
            .. TextSources
                .Open(TestData.Require("data", "wikipedia", "enwiki2015", "AA", "wiki_00"), "test")
                .Read()
                .Take(30),
        ];

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
