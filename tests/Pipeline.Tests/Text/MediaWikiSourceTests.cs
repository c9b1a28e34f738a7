using System.Text;
using Pipeline.Shared;
using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

public sealed class MediaWikiSourceTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("enwiki-latest-pages-articles1.xml-p000000010p000030302-shortened.bz2", 106, "12", "Anarchism")]
    [InlineData("enwiki-table-markup.xml.bz2", 5, "217916", "Constructive vote of no confidence")]
    [InlineData("Wikipedia-20171220131118.xml", 88, "10954022", "Ville-d'Avray (1865 painting)")]
    public void Real_dumps_give_their_articles_without_redirects_and_markup(
        string name,
        int articles,
        string id,
        string title
    )
    {
        string path = TestData.Require("data", "wikipedia", "mediawiki_xml", name);

        var documents = TextSources.Open(path, "test").Read().ToList();

        documents.Should().HaveCount(articles);
        documents[0].Id.Should().Be(id);
        documents[0].Title.Should().Be(title);
        documents.Select(d => d.Id).Should().OnlyHaveUniqueItems();
        string all = string.Join('\n', documents.Select(d => d.Text));
        foreach (
            string markup in new[]
            {
                "{{",
                "[[",
                "]]",
                "{|",
                "|}",
                "''",
                "<ref",
                "</",
                "&nbsp;",
                "\n==",
                "[http",
                "__NO",
            }
        )
        {
            all.Should().NotContain(markup);
        }
    }

    [Fact]
    public void Only_articles_are_taken_each_with_its_last_revision()
    {
        string path = folder.Write(
            "dump.xml",
            TextFiles.MediaWiki(
                "<title>A</title><ns>0</ns><id>1</id><revision><id>9</id><text>old</text></revision>"
                    + "<revision><id>10</id><contributor><id>8</id></contributor><text>new</text></revision>",
                "<title>Talk:A</title><ns>1</ns><id>2</id><revision><text>talk</text></revision>",
                "<title>R</title><ns>0</ns><id>3</id><redirect title=\"A\" /><revision><text>#REDIRECT [[A]]</text></revision>",
                "<title>r</title><ns>0</ns><id>4</id><revision><text>#redirect [[A]]</text></revision>",
                "<title>Empty</title><ns>0</ns><id>5</id><revision><text /></revision>",
                "<title>Program</title><ns>0</ns><id>6</id><revision><model>Scribunto</model><text>return</text></revision>",
                "<title>B &amp; C</title><ns>0</ns><id>7</id><revision><text>x &lt; y</text></revision>"
            )
        );

        TextSources
            .Open(path, "test")
            .Read()
            .Should()
            .Equal(new Document("1", "A", "new"), new Document("7", "B & C", "x < y"));
    }

    [Fact]
    public void Dumps_without_namespaces_are_sorted_by_title()
    {
        string path = folder.Write(
            "dump.xml",
            TextFiles.MediaWiki(
                "<title>Talk:A</title><id>1</id><revision><text>talk</text></revision>",
                "<title>Alien: A film</title><id>2</id><revision><text>film [[Datei:a.png|thumb|caption]]</text></revision>"
            )
        );

        TextSources.Open(path, "test").Read().Should().Equal(new Document("2", "Alien: A film", "film"));
    }

    [Fact]
    public void A_multistream_dump_reads_as_one()
    {
        string[] parts = TextFiles
            .MediaWiki([.. Enumerable.Range(0, 3).Select(i => new Document($"{i}", $"T{i}", $"text {i}"))])
            .Split("<page>");
        string path = folder["enwiki-pages-articles-multistream.xml.bz2"];
        TempFolder.Overwrite(
            path,
            [.. parts.SelectMany((part, i) => TextFiles.Compress(i == 0 ? part : "<page>" + part, ".bz2"))]
        );

        TextSources.Open(path, "test").Read().Select(d => d.Text).Should().Equal("text 0", "text 1", "text 2");
    }

    [Theory]
    [InlineData("<mediawiki><page><title>A</title>", "line 1", "not closed")]
    [InlineData("<mediawiki>\n<page></title>", "line 2", "title")]
    [InlineData("<html></html>", "line 1", "<html>")]
    [InlineData("<!DOCTYPE x [<!ENTITY a \"aaaa\">]>\n<mediawiki>&a;</mediawiki>", "line 1", "DTD")]
    [InlineData("<mediawiki>&lol;</mediawiki>", "line 1", "lol")]
    [InlineData("<mediawiki><page><title><b>A</b></title></page></mediawiki>", "line 1", "<b>")]
    [InlineData("", "line", "missing")]
    public void Damage_is_refused_by_file_and_line(string xml, string place, string found)
    {
        string path = folder.Write("dump.xml", xml);

        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(path)
            .And.Contain(place)
            .And.Contain(found)
            .And.Contain("again");
    }

    [Fact]
    public void Elements_without_end_are_refused_in_bounded_memory()
    {
        string path = folder["dump.xml"];
        foreach (string bomb in new[] { "<mediawiki>" + new string('x', 40 << 20), Deep(100_000) })
        {
            TempFolder.Overwrite(path, Encoding.UTF8.GetBytes(bomb));

            ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
                .Should()
                .Throw<ConfigurationException>();
        }

        static string Deep(int levels) => "<mediawiki>" + string.Concat(Enumerable.Repeat("<a>", levels));
    }
}
