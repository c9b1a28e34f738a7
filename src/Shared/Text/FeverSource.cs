using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Text;

/// <summary>
/// FEVER's Wikipedia: wiki-NNN.jsonl, a page a line with <c>id</c> (the title) and <c>lines</c>, each of which is
/// <c>number TAB sentence TAB links</c>. A page's text is its sentences, with a blank line where <c>lines</c> has an empty
/// one; pages without a sentence are skipped. Tokens such as -LRB- become the brackets they stand for; the spaces that
/// tokenisation put around punctuation stay.
/// </summary>
public sealed partial class FeverSource(IReadOnlyList<string> files) : ITextSource
{
    private static readonly (string Token, string Text)[] Brackets =
    [
        ("-LRB-", "("),
        ("-RRB-", ")"),
        ("-LSB-", "["),
        ("-RSB-", "]"),
        ("-LCB-", "{"),
        ("-RCB-", "}"),
        ("-COLON-", ":"),
        ("-SLH-", "/"),
    ];

    public IReadOnlyList<string> Files => files;

    /// <summary>Other JSON lines may be named so too: the first object says whether it has <c>lines</c>.</summary>
    public static bool Reads(string path) =>
        Name().IsMatch(Path.GetFileName(TextFile.PlainPath(path))) && File.Exists(path) && HasLines(path);

    public IEnumerable<Document> Read() =>
        files.SelectMany(file =>
            JsonDocuments
                .Lines(file)
                .Select(line => JsonDocuments.Decoded(line.Where, () => Page(line.Json, line.Where)))
                .Where(document => document.HasText)
        );

    private static Document Page(JsonElement json, string where)
    {
        string id = JsonDocuments.Required(json, "id", where);
        string title = Restored(id).Replace('_', ' ');
        var text = new StringBuilder();
        foreach (string line in JsonDocuments.Required(json, "lines", where).Split('\n'))
        {
            string[] parts = line.Split('\t', 3);
            string sentence = parts.Length < 2 ? "" : parts[1].Trim();
            if (sentence.Length == 0)
            {
                text.Append("\n\n");
            }
            else
            {
                text.Append(text.Length == 0 || text[^1] == '\n' ? "" : " ").Append(sentence);
            }
        }
        return new Document(id, title, BlankLines().Replace(Restored(text.ToString()).Trim(), "\n\n"));
    }

    private static string Restored(string text)
    {
        foreach (var (token, bracket) in Brackets)
        {
            text = text.Replace(token, bracket, StringComparison.Ordinal);
        }
        return text;
    }

    private static bool HasLines(string path)
    {
        try
        {
            return JsonDocuments.Lines(path).Select(line => JsonDocuments.Field(line.Json, "lines")).FirstOrDefault()
                is not null;
        }
        catch (Exception e) when (e is PipelineException or InvalidOperationException)
        {
            return false; // JsonLinesSource says what is wrong with it
        }
    }

    [GeneratedRegex(@"^wiki-\d+\.jsonl\z", RegexOptions.IgnoreCase)]
    private static partial Regex Name();

    [GeneratedRegex(@"\n{3,}")]
    private static partial Regex BlankLines();
}
