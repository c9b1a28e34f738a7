using Pipeline.Shared;
using Pipeline.Shared.Text;

namespace Pipeline.Tests.Text;

public sealed class FeverSourceTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Text_is_made_of_the_sentences_with_their_brackets_and_without_links()
    {
        string path = folder.Write(
            "wiki-001.jsonl",
            """
            {"id": "", "text": "", "lines": ""}
            {"id": "Anna_-LRB-film-RRB-", "text": "unused", "lines": "0\tAnna -LRB- 1951 -RRB- is a film .\tfilm\tFilm\n1\tIt is -LSB- long -RSB- .\n2\t\n3\t\n4\tThe end .\tend\tEnd\n5\t"}
            {"id": "Only_a_title", "text": "", "lines": "0\t"}
            {"id": "Part-COLON-_two", "text": "", "lines": "0\tx -LCB- y -RCB-"}
            """
        );

        TextSources
            .Open(path, "test")
            .Read()
            .Should()
            .Equal(
                new Document(
                    "Anna_-LRB-film-RRB-",
                    "Anna (film)",
                    "Anna ( 1951 ) is a film . It is [ long ] .\n\nThe end ."
                ),
                new Document("Part-COLON-_two", "Part: two", "x { y }")
            );
    }

    [Fact]
    public void Other_JSON_lines_of_that_name_are_read_as_such()
    {
        string path = folder.Write("wiki-001.jsonl", "{\"id\": \"a\", \"text\": \"-LRB- b\"}\n");

        TextSources.Open(path, "test").Read().Should().Equal(new Document("a", "", "-LRB- b"));
    }

    [Fact]
    public void A_page_without_lines_is_refused_by_line()
    {
        string path = folder.Write("wiki-001.jsonl", "{\"id\": \"a\", \"lines\": \"0\\tb\"}\n{\"id\": \"c\"}\n");

        ((Action)(() => _ = TextSources.Open(path, "test").Read().ToList()))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain("line 2")
            .And.Contain("'lines'");
    }
}
