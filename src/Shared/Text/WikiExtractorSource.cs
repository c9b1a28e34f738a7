using System.Globalization;
using System.Net;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Text;

/// <summary>
/// WikiExtractor's output: <c>&lt;doc id=".." url=".." title=".."&gt;</c>, the title, the body, <c>&lt;/doc&gt;</c>. Pages
/// without a body (only a title) are skipped.
/// </summary>
public sealed partial class WikiExtractorSource(IReadOnlyList<string> files) : ITextSource
{
    private const string ExpectedOpening = "<doc id=\"..\" url=\"..\" title=\"..\">";
    private const string NeverClosed = "a <doc> that is never closed";
    private const string ExtractAgain = "Extract the pages again; the file is not complete";

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
                    throw line[0] == '{'
                        ? Malformed(file, number, "an object as of --json", ExpectedOpening, "Name the files *.jsonl")
                        : Malformed(file, number, Shown(line), ExpectedOpening, ExtractAgain);
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
            else if (Opening().IsMatch(line)) // two files put together, of which the first was cut
            {
                throw Malformed(
                    file,
                    openedAt,
                    NeverClosed,
                    $"</doc> before the next one, in line {number}",
                    ExtractAgain
                );
            }
            else
            {
                body.AppendLine(line);
            }
        }
        if (open is not null)
        {
            throw Malformed(file, openedAt, NeverClosed, "</doc> before the file's end", ExtractAgain);
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

    private static ConfigurationException Malformed(
        string file,
        int line,
        string found,
        string expected,
        string remedy
    ) =>
        new(
            new Fault(
                string.Create(CultureInfo.InvariantCulture, $"{file}: line {line}"),
                found,
                expected,
                remedy
            ).ToString()
        );

    // url and, with --revision, revid.
    [GeneratedRegex("^<doc id=\"(?<id>[^\"]*)\"(?: [a-z]+=\"[^\"]*\"){0,9} title=\"(?<title>.*)\">$")]
    private static partial Regex Opening();
}
