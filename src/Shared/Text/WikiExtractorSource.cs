using System.Net;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Text;

/// <summary>
/// WikiExtractor's output: <c>&lt;doc id=".." url=".." title=".."&gt;</c>, the title, the body, <c>&lt;/doc&gt;</c>. Pages
/// without a body (only a title) are skipped.
/// </summary>
public sealed partial class WikiExtractorSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) =>
        Path.GetFileName(path).StartsWith("wiki_", StringComparison.Ordinal)
        && Path.GetExtension(TextFile.PlainPath(path)) == "";

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile);

    private static IEnumerable<Document> ReadFile(string file)
    {
        (string Id, string Title)? open = null;
        var body = new BoundedText(file);
        int openedAt = 0;
        foreach (var (number, line) in BoundedLines.Read(file))
        {
            if (open is not { } page)
            {
                if (line.Length == 0)
                {
                    continue;
                }
                var match = Opening().Match(line);
                if (!match.Success)
                {
                    throw Malformed(file, number, Shown(line), "<doc id=\"..\" url=\"..\" title=\"..\">");
                }
                open = (match.Groups["id"].Value, WebUtility.HtmlDecode(match.Groups["title"].Value));
                openedAt = number;
            }
            else if (line == "</doc>")
            {
                string text = Body(body.Take(), page.Title);
                open = null;
                if (text.Length > 0)
                {
                    yield return new Document(page.Id, page.Title, text);
                }
            }
            else
            {
                body.AppendLine(line);
            }
        }
        if (open is not null)
        {
            throw Malformed(file, openedAt, "a <doc> that is never closed", "</doc> before the file's end");
        }
    }

    private static string Body(string lines, string title)
    {
        string text = WebUtility.HtmlDecode(lines).Trim();
        if (text == title)
        {
            return "";
        }
        return text.StartsWith(title + "\n", StringComparison.Ordinal) ? text[(title.Length + 1)..].Trim() : text;
    }

    private static string Shown(string line) => line.Length > 60 ? $"'{line[..60]}...'" : $"'{line}'";

    private static ConfigurationException Malformed(string file, int line, string found, string expected) =>
        new(
            new Fault(
                $"{file}: line {line}",
                found,
                expected,
                "Extract the pages again; the file is not complete"
            ).ToString()
        );

    [GeneratedRegex("^<doc id=\"(?<id>[^\"]*)\"(?: url=\"[^\"]*\")? title=\"(?<title>.*)\">$")]
    private static partial Regex Opening();
}
