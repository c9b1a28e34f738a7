using Pipeline.Shared;
using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

public class TextSourceTests
{
    [Fact]
    public void Real_Wikipedia_gives_every_page_with_a_body_once_and_in_order()
    {
        string file = TestData.Require("data", "wikipedia", "enwiki2015", "AA", "wiki_00");
        string[] opened = [.. File.ReadLines(file).Where(l => l.StartsWith("<doc id=", StringComparison.Ordinal))];

        var documents = TextSources.Open(file, "test").Read().ToList();

        documents.Count.Should().BeLessThanOrEqualTo(opened.Length).And.BeGreaterThan(opened.Length / 2);
        documents.Select(d => d.Id).Should().OnlyHaveUniqueItems();
        string[] ids = [.. opened.Select(l => l.Split('"')[1])];
        documents.Select(d => Array.IndexOf(ids, d.Id)).Should().BeInAscendingOrder().And.NotContain(-1);
        documents.Should().OnlyContain(d => d.Text.Length > 0 && d.Title.Length > 0 && !d.Text.Contains("</doc>"));
    }

    [Fact]
    public void Pages_that_are_only_a_title_are_skipped()
    {
        string folder = TestData.Require("data", "wikipedia", "enwiki2018");

        var documents = TextSources.Open(folder, "test").Read().ToList();

        documents.Should().NotBeEmpty().And.OnlyContain(d => d.Text.Length > 0 && d.Text != d.Title);
    }

    [Fact]
    public void JSON_lines_keep_id_title_and_text()
    {
        using var folder = new TempFolder();
        string path = folder.Write(
            "a.jsonl",
            """
            {"id": "x", "title": "T", "text": "one\ntwo"}

            {"id": 7, "text": "three"}
            """
        );

        TextSources
            .Open(path, "test")
            .Read()
            .Should()
            .Equal(new Document("x", "T", "one\ntwo"), new Document("7", "", "three"));
    }

    [Fact]
    public void A_JSON_array_holds_texts_or_documents()
    {
        using var folder = new TempFolder();
        string path = folder.Write("a.json", """["one", {"id": "x", "title": "T", "text": "two"}]""");

        TextSources
            .Open(path, "test")
            .Read()
            .Should()
            .Equal(new Document("0", "", "one"), new Document("x", "T", "two"));
    }

    [Theory]
    [InlineData("a.jsonl", "{\"text\": \"fine\"}\n{\"title\": \"no text\"}\n", "a.jsonl: line 2")]
    [InlineData("a.jsonl", "{\"text\": \n", "a.jsonl: line 1")]
    [InlineData("a.json", "[\"one\", {\"title\": \"no text\"}]", "a.json: item 1")]
    [InlineData("a.json", "[\"one\", ", "a.json: item 1")]
    [InlineData("wiki_00", "<doc id=\"1\" url=\"u\" title=\"t\">\nt\n\nbody\n", "wiki_00: line 1")]
    [InlineData("a.txt", "one\n\0\0\0\0", "a.txt: line 2")]
    [InlineData("wiki.test.raw", " = T = \n\nbody\n\0\0", "wiki.test.raw: line 4")]
    [InlineData("wiki_00", "plain words\n", "wiki_00: line 1")]
    [InlineData("wiki_00", "{\"id\": \"1\", \"text\": \"t\"}\n", "--json")]
    [InlineData(
        "wiki_00",
        "<doc id=\"1\" url=\"u\" title=\"t\">\nt\n\ncut\n<doc id=\"2\" url=\"u\" title=\"s\">\ns\n\nbody\n</doc>\n",
        "wiki_00: line 1"
    )]
    public void Malformed_text_is_refused_by_file_and_line(string name, string content, string where)
    {
        using var folder = new TempFolder();
        string path = folder.Write(name, content);

        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(where);
    }

    [Fact]
    public void WikiExtractor_may_say_more_of_a_page_than_its_address()
    {
        using var folder = new TempFolder();
        string path = folder.Write(
            "wiki_00",
            "<doc id=\"12\" revid=\"345\" url=\"https://en.wikipedia.org/wiki?curid=12\" title=\"\"Weird\" Al\">\n\"Weird\" Al\n\nbody\n\n</doc>\n"
        );

        TextSources.Open(path, "test").Read().Should().Equal(new Document("12", "\"Weird\" Al", "body"));
    }

    [Theory]
    [InlineData("wiki_00", "wiki_00.bz2")]
    [InlineData("a.jsonl.gz", "a.jsonl.zst")]
    public void A_file_beside_its_compressed_copy_is_refused(string one, string other)
    {
        using var folder = new TempFolder();
        folder.Write(one, "");
        folder.Write(other, "");

        ((Action)(() => TextSources.Open(folder.Path, "test")))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(one)
            .And.Contain(other);
    }

    [Fact]
    public void A_folder_that_mixes_formats_is_refused_with_a_file_of_each()
    {
        using var folder = new TempFolder();
        folder.Write("wiki-001.jsonl", """{"id": "a", "lines": "0\tb"}""");
        folder.Write("wiki-002.jsonl", ""); // a copy that was cut says no longer that it is FEVER's

        ((Action)(() => TextSources.Open(folder.Path, "test")))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain("wiki-001.jsonl (FEVER)")
            .And.Contain("wiki-002.jsonl (JSON lines)");
    }

    [Fact]
    public void Bytes_that_are_not_UTF8_are_refused()
    {
        using var folder = new TempFolder();
        string path = folder.File("a.txt");
        using (var stream = File.Create(path))
        {
            stream.Write([0x61, 0xff, 0xfe, 0x62]);
        }

        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain("UTF-8");
    }

    [Fact]
    public void The_split_depends_on_content_alone_and_has_the_asked_size()
    {
        Document[] documents = [.. Enumerable.Range(0, 4000).Select(i => new Document($"{i}", "t", $"text {i}"))];

        documents.Count(d => DocumentSplit.IsHeldOut(d, 0.1)).Should().BeInRange(330, 470);
        bool[] split = [.. documents.Select(d => DocumentSplit.IsHeldOut(d, 0.1))];
        documents.Select(d => DocumentSplit.IsHeldOut(d with { Id = "another" }, 0.1)).Should().Equal(split);
    }
}
