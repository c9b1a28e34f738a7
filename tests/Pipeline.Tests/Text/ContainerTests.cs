using System.Text;
using Pipeline.Shared;
using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

/// <summary>What a document is does not depend on the file it comes in.</summary>
public sealed class ContainerTests : IDisposable
{
    private static readonly string[] Parts = ["{\"text\": \"on", "e\"}\n", "{\"text\": \"two\"}\n"];

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    public static TheoryData<string, string> FormatsAndCompressions
    {
        get
        {
            var data = new TheoryData<string, string>();
            foreach (string format in new[] { "a.jsonl", "a.json", "wiki_00", "a.parquet" })
            {
                foreach (string ending in format == "a.parquet" ? [""] : TextFiles.Compressions)
                {
                    data.Add(format, ending);
                }
            }
            return data;
        }
    }

    [Theory]
    [MemberData(nameof(FormatsAndCompressions))]
    public void Real_articles_and_their_split_are_the_same_in_every_format_and_compression(string name, string ending)
    {
        var articles = TextSources
            .Open(TestData.Require("data", "wikipedia", "enwiki2015", "AA", "wiki_00"), "test")
            .Read()
            .ToList();
        string path = folder[name + ending];
        if (name == "a.parquet")
        {
            TextFiles.WriteParquet(path, articles, rowGroup: 7);
        }
        else
        {
            string text = name switch
            {
                "a.jsonl" => TextFiles.JsonLines(articles),
                "a.json" => TextFiles.JsonArray(articles),
                _ => TextFiles.WikiExtractor(articles),
            };
            TempFolder.Overwrite(path, TextFiles.Compress(text, ending));
        }

        var read = TextSources.Open(path, "test").Read().ToList();

        read.Should().Equal(articles);
        bool[] split = [.. articles.Select(article => DocumentSplit.IsHeldOut(article, 0.3))];
        read.Select(article => DocumentSplit.IsHeldOut(article, 0.3)).Should().Equal(split).And.Contain(true);
    }

    [Theory]
    [InlineData("wiki.test.raw", "wikitext2")]
    [InlineData("Wikipedia-20171220131118.xml", "mediawiki_xml")]
    public void Real_files_give_the_same_documents_when_compressed(string name, string from)
    {
        string original = TestData.Require("data", "wikipedia", from, name);
        var documents = TextSources.Open(original, "test").Read().ToList();
        foreach (string ending in TextFiles.Compressions)
        {
            string path = folder[name + ending];
            TempFolder.Overwrite(path, TextFiles.Compress(File.ReadAllBytes(original), ending));

            TextSources.Open(path, "test").Read().Should().Equal(documents);
        }
    }

    [Fact]
    public void A_plain_text_keeps_its_name_when_compressed()
    {
        foreach (string ending in TextFiles.Compressions)
        {
            string path = folder["note.txt" + ending];
            TempFolder.Overwrite(path, TextFiles.Compress("One.\n\nTwo é.\n", ending));

            TextSources.Open(path, "test").Read().Should().Equal(new Document("note.txt", "note", "One.\n\nTwo é."));
        }
    }

    [Theory]
    [InlineData(".gz")]
    [InlineData(".bz2")]
    [InlineData(".zst")]
    public void Several_compressed_streams_in_one_file_are_read_one_after_another(string ending)
    {
        byte[][] members = [.. Parts.Select(text => TextFiles.Compress(text, ending))];
        string path = folder["a.jsonl" + ending];
        TempFolder.Overwrite(path, [.. members.SelectMany(member => member)]);

        TextSources.Open(path, "test").Read().Select(document => document.Text).Should().Equal("one", "two");
    }

    [Theory]
    [InlineData(".gz")]
    [InlineData(".bz2")]
    [InlineData(".zst")]
    public void Every_cut_of_a_compressed_file_is_refused_by_name_and_place(string ending)
    {
        string text = TextFiles.JsonLines(
            Enumerable.Range(0, 40).Select(i => new Document($"{i}", "t", $"text {i * 7919}"))
        );
        byte[] whole = TextFiles.Compress(text, ending);
        string path = folder["a.jsonl" + ending];
        for (int length = 0; length < whole.Length; length++)
        {
            TempFolder.Overwrite(path, whole.AsSpan(0, length));

            ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
                .Should()
                .Throw<ConfigurationException>("{0} of {1} bytes are not the whole file", length, whole.Length)
                .Which.Message.Should()
                .Contain(path)
                .And.Contain("compressed byte")
                .And.Contain("again");
        }
    }

    [Theory]
    [InlineData(".gz")]
    [InlineData(".bz2")]
    [InlineData(".zst")]
    public void A_file_that_is_not_what_its_ending_says_is_refused(string ending)
    {
        string path = folder.Write("a.jsonl" + ending, "{\"text\": \"plain\"}\n");

        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(path);
    }

    [Theory]
    [InlineData("a.txt")]
    [InlineData("a.jsonl")]
    [InlineData("a.json")]
    [InlineData("dump.xml")]
    [InlineData("wiki_00")]
    [InlineData("wiki-001.jsonl")]
    public void A_byte_order_mark_is_not_part_of_the_text(string name)
    {
        Document[] documents = [new("1", "A", "One.")];
        string text = name switch
        {
            "a.txt" => "One.",
            "a.jsonl" => TextFiles.JsonLines(documents),
            "a.json" => TextFiles.JsonArray(documents),
            "dump.xml" => TextFiles.MediaWiki(documents),
            "wiki_00" => TextFiles.WikiExtractor(documents),
            _ => TextFiles.Fever(documents),
        };
        string path = folder[name];
        TempFolder.Overwrite(path, [0xEF, 0xBB, 0xBF, .. Encoding.UTF8.GetBytes(text)]);

        TextSources.Open(path, "test").Read().Single().Text.Should().Be("One.");
    }

    [Theory]
    [InlineData("a.jsonl")]
    [InlineData("a.parquet")]
    [InlineData("dump.xml")]
    [InlineData("wiki_00")]
    [InlineData("wiki-001.jsonl")]
    [InlineData("wiki.test.raw")]
    public void Documents_without_text_are_skipped_and_lines_of_10_MB_are_read(string name)
    {
        string line = string.Join(' ', Enumerable.Range(0, 1_500_000).Select(i => $"w{i % 1000}"));
        line.Length.Should().BeGreaterThan(5_000_000);
        Document[] documents = [new("1", "A", "  "), new("2", "B", $"{line} {line}"), new("3", "C", "x")];
        string path = folder[name];
        if (name == "a.parquet")
        {
            TextFiles.WriteParquet(path, documents);
        }
        else
        {
            folder.Write(
                name,
                name switch
                {
                    "a.jsonl" => TextFiles.JsonLines(documents),
                    "dump.xml" => TextFiles.MediaWiki(documents),
                    "wiki-001.jsonl" => TextFiles.Fever(documents),
                    "wiki.test.raw" => string.Concat(documents.Select(d => $" = {d.Title} = \n\n {d.Text} \n\n")),
                    _ => TextFiles.WikiExtractor(documents),
                }
            );
        }

        TextSources
            .Open(path, "test")
            .Read()
            .Select(document => (document.Title, WithoutHeading(document)))
            .Should()
            .Equal(documents[1..].Select(document => (document.Title, document.Text)));

        static string WithoutHeading(Document document) => document.Text.Replace($"= {document.Title} =", "").Trim();
    }

    [Fact]
    public void A_folder_is_read_in_the_order_of_its_names()
    {
        for (int file = 0; file < 3; file++)
        {
            Document[] rows = [new($"{file}-0", "", "a"), new($"{file}-1", "", "b")];
            TextFiles.WriteParquet(folder[$"train-0000{2 - file}-of-00003.parquet"], rows);
        }

        TextSources
            .Open(folder.Path, "test")
            .Read()
            .Select(document => document.Id)
            .Should()
            .Equal("2-0", "2-1", "1-0", "1-1", "0-0", "0-1");
    }
}
