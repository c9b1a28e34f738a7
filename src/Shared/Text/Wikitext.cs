using System.Buffers;
using System.Collections.Frozen;
using System.Net;
using System.Text;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Text;

/// <summary>
/// MediaWiki's markup as plain text, in one pass over the text and one over its constructs: linear in its length, without
/// recursion. What is kept: running text, list items, headings of sections that have text, labels of links. What is
/// dropped: templates with all that they would print (quotations, converted units, dates), tables, formulas, references,
/// galleries, files with their captions, categories. Not understood: templates that open or close other constructs, and
/// what extensions beyond those listed here show.
/// </summary>
/// <param name="hiddenLinks">Lower-case namespaces, links to which show nothing: files and categories.</param>
internal sealed partial class Wikitext(IReadOnlySet<string> hiddenLinks)
{
    /// <summary>MediaWiki's own limit of a title is 255 bytes; a link's target may have a section and spaces.</summary>
    private const int MaximumTarget = 1024;
    private const int DeepestHeading = 6;

    /// <summary>Stands where something was dropped until its line is cleaned; XML cannot hold it.</summary>
    private const char Gap = '\uFFFF';

    /// <summary>Elements that are dropped with what they hold, which is not wikitext.</summary>
    private static readonly FrozenSet<string> DroppedElements = FrozenSet.Create(
        "ref",
        "references",
        "math",
        "chem",
        "ce",
        "gallery",
        "imagemap",
        "timeline",
        "score",
        "hiero",
        "graph",
        "mapframe",
        "maplink",
        "templatedata",
        "templatestyles",
        "syntaxhighlight",
        "source",
        "inputbox",
        "indicator",
        "includeonly",
        "table",
        "style",
        "script"
    );

    /// <summary>Elements whose tags alone are dropped.</summary>
    private static readonly FrozenSet<string> KnownElements = FrozenSet.ToFrozenSet(
        (
            "nowiki pre code tt kbd samp var b i u s em strong small big sub sup span div p br hr center blockquote cite del "
            + "ins font abbr bdi bdo dfn q rb rp rt ruby poem li ul ol dl dt dd h1 h2 h3 h4 h5 h6 noinclude onlyinclude "
            + "section wbr time data mark strike tr td th caption thead tbody languages translate"
        ).Split(' ')
    );

    /// <summary>Larger Wikipedias, whose links between languages stand in older dumps.</summary>
    private static readonly FrozenSet<string> Languages = FrozenSet.ToFrozenSet(
        (
            "af als an ar arz ast az be bg bn br bs ca ceb ckb cs cv cy da de el en eo es et eu fa fi fr fy ga gl gu he hi hr ht "
            + "hu hy ia id io is it ja jv ka kk ko ku ky la lb lmo lt lv mg mk ml mn mr ms my nap nds ne new nl nn no oc pl "
            + "pms pnb pt qu ro ru scn sco sh simple sk sl sq sr su sv sw ta te tg th tl tr tt uk ur uz vec vi vo wa war yi yo "
            + "zh zh-min-nan zh-yue"
        ).Split(' ')
    );

    private static readonly string[] Schemes =
    [
        "http://",
        "https://",
        "ftp://",
        "//",
        "mailto:",
        "irc://",
        "news:",
        "gopher://",
    ];

    /// <summary>Plain text: a line a paragraph, list item or heading, with blank lines as the author set them, at most one.</summary>
    public string ToPlain(string markup)
    {
        ArgumentNullException.ThrowIfNull(markup);
        return Lines(Shown(markup, new Scanner(markup).Spans()));
    }

    /// <summary>The namespace a title names, lower-case; empty where it names none.</summary>
    public static string PrefixOf(ReadOnlySpan<char> title)
    {
        int colon = title.IndexOf(':');
        return colon <= 0 ? "" : title[..colon].Trim().ToString().Replace('_', ' ').ToLowerInvariant();
    }

    /// <summary>The text with gaps for what is dropped and labels for links.</summary>
    private string Shown(string markup, List<Span> spans)
    {
        var shown = new StringBuilder(markup.Length);
        var closings = new Stack<(int At, int Length)>(); // of links whose label is being shown
        int next = 0;
        for (int i = 0; i < markup.Length; )
        {
            if (closings.TryPeek(out var closing) && i >= closing.At)
            {
                closings.Pop();
                i = Math.Max(i, closing.At + closing.Length);
            }
            else if (next < spans.Count && spans[next].Start <= i)
            {
                i = Enter(markup, spans[next++], i, shown, closings);
            }
            else if (markup[i] == '\'')
            {
                i = Quotes(markup, i, shown);
            }
            else
            {
                int end = Math.Min(
                    next < spans.Count ? spans[next].Start : markup.Length,
                    closings.TryPeek(out closing) ? closing.At : markup.Length
                );
                int quote = markup.IndexOf('\'', i, end - i);
                end = quote < 0 ? end : quote;
                shown.Append(markup, i, end - i);
                i = end;
            }
        }
        return shown.ToString();
    }

    /// <returns>Where to go on.</returns>
    private int Enter(string markup, Span span, int i, StringBuilder shown, Stack<(int At, int Length)> closings)
    {
        if (span.End <= i) // inside what was dropped
        {
            return i;
        }
        switch (span.Kind)
        {
            case Construct.Tag:
                return span.End;
            case Construct.Break:
                shown.Append('\n');
                return span.End;
            case Construct.Link:
            {
                var (inside, end) = (span.Start + 2, span.End - 2);
                int limit = Math.Min(end, inside + MaximumTarget);
                int pipe = markup.IndexOf('|', inside, limit - inside);
                var target = markup.AsSpan(inside..(pipe < 0 ? limit : pipe));
                bool isShown = target.StartsWith(":") || !IsHidden(PrefixOf(target));
                int label = pipe < 0 ? inside + (target.StartsWith(":") ? 1 : 0) : pipe + 1;
                return isShown ? Label(label, end, 2) : Drop();
            }
            case Construct.External:
            {
                int end = span.End - 1;
                int space = markup.AsSpan(span.Start..Math.Min(end, span.Start + MaximumTarget)).IndexOfAny(' ', '\t');
                return space < 0 ? Drop() : Label(span.Start + space + 1, end, 1);
            }
            default:
                return Drop();
        }

        int Label(int start, int end, int closingLength)
        {
            closings.Push((end, closingLength));
            return Math.Max(i, start);
        }

        int Drop()
        {
            shown.Append(Gap);
            return span.End;
        }
    }

    private bool IsHidden(string prefix) => hiddenLinks.Contains(prefix) || Languages.Contains(prefix);

    /// <summary>Runs of apostrophes are italics (2), bold (3) or both (5); what a run has beyond that is shown.</summary>
    private static int Quotes(string markup, int i, StringBuilder shown)
    {
        int run = markup.AsSpan(i).IndexOfAnyExcept('\'');
        run = run < 0 ? markup.Length - i : run;
        shown.Append(
            '\'',
            run switch
            {
                1 or 4 => 1,
                > 5 => run - 5,
                _ => 0,
            }
        );
        return i + run;
    }

    private static string Lines(string shown)
    {
        var lines = new List<(int Heading, string Text)>();
        foreach (var range in shown.AsSpan().Split('\n'))
        {
            string line = WithoutGaps(shown.AsSpan()[range]);
            int level = HeadingLevel(line);
            string text = level > 0 ? line[level..^level] : WithoutPrefix(line);
            text = WebUtility.HtmlDecode(Switches().Replace(text, "")).Replace('\u00A0', ' ').Trim();
            lines.Add((text.Length > 0 ? level : 0, text));
        }
        var plain = new StringBuilder();
        bool wasBlank = true;
        foreach (string text in WithoutEmptySections(lines))
        {
            bool isBlank = text.Length == 0;
            if (!isBlank || !wasBlank)
            {
                plain.Append(text).Append('\n');
            }
            wasBlank = isBlank;
        }
        return plain.ToString().TrimEnd();
    }

    private static int HeadingLevel(string line)
    {
        int before = Math.Min(DeepestHeading, line.AsSpan().IndexOfAnyExcept('='));
        int after = Math.Min(DeepestHeading, line.Length - 1 - line.AsSpan().LastIndexOfAnyExcept('='));
        return Math.Max(0, Math.Min(before, after));
    }

    private static string WithoutPrefix(string line) =>
        line.StartsWith("----", StringComparison.Ordinal)
            ? line.TrimStart('-')
            : line.TrimStart(['*', '#', ':', ';', ' ', '\t']);

    private static IEnumerable<string> WithoutEmptySections(List<(int Heading, string Text)> lines)
    {
        bool[] isKept = new bool[lines.Count];
        bool[] hasText = new bool[DeepestHeading + 1]; // by level: before the next heading of that level or above
        for (int i = lines.Count - 1; i >= 0; i--)
        {
            var (level, text) = lines[i];
            isKept[i] = level == 0 || hasText[level];
            if (level > 0)
            {
                hasText.AsSpan(level).Clear();
            }
            else if (text.Length > 0)
            {
                hasText.AsSpan().Fill(true);
            }
        }
        return lines.Where((_, i) => isKept[i]).Select(line => line.Text);
    }

    /// <summary>Closes gaps: with the blanks around them, and with the brackets that held nothing else.</summary>
    private static string WithoutGaps(ReadOnlySpan<char> line)
    {
        if (!line.Contains(Gap))
        {
            return line.Trim().ToString();
        }
        var clean = new StringBuilder(line.Length);
        bool isGap = false;
        foreach (char c in line)
        {
            if (c == Gap)
            {
                TrimEnd(clean, " \t", atLeast: isGap ? 0 : 1);
                isGap = true;
                continue;
            }
            bool isBlank = c is ' ' or '\t';
            if (isGap && (isBlank || c is ',' or ';' or ':') && (clean.Length == 0 || EndsWithOpening(clean)))
            {
                continue;
            }
            if (isGap && isBlank && clean[^1] == ' ')
            {
                continue;
            }
            if (isGap && c is '.' or ',' or ';' or ':' or '!' or '?' or ')')
            {
                TrimEnd(clean, c == ')' ? " ,;:" : " ", atLeast: 0);
            }
            if (isGap && c == ')' && clean.Length > 0 && clean[^1] == '(')
            {
                clean.Length--;
                TrimEnd(clean, " ", atLeast: 0);
                continue;
            }
            clean.Append(c);
            isGap &= isBlank;
        }
        return clean.ToString().Trim();
    }

    private static bool EndsWithOpening(StringBuilder text) =>
        text.Length > 0 && (text[^1] == '(' || (text[^1] == ' ' && text.Length > 1 && text[^2] == '('));

    /// <summary>Removes characters of a set from the end, except for <paramref name="atLeast"/> of them.</summary>
    private static void TrimEnd(StringBuilder text, string set, int atLeast)
    {
        int kept = text.Length;
        while (kept > 0 && set.Contains(text[kept - 1]))
        {
            kept--;
        }
        text.Length = Math.Min(text.Length, kept + atLeast);
    }

    [GeneratedRegex("__[A-Z]{3,30}__")]
    private static partial Regex Switches();

    private enum Construct
    {
        /// <summary>A tag or comment, which leaves what is around it as it is.</summary>
        Tag,

        /// <summary>A line break.</summary>
        Break,

        /// <summary>[[target|label]]</summary>
        Link,

        /// <summary>[address label]</summary>
        External,

        /// <summary>All from its beginning to its end.</summary>
        Dropped,
    }

    /// <summary>A construct from its first character to the one behind its last.</summary>
    private readonly record struct Span(int Start, int End, Construct Kind);

    /// <summary>Finds the constructs of a text. What opens without closing, or closes without opening, is text.</summary>
    private sealed class Scanner(string markup)
    {
        private const int MaximumIndent = 64;
        private static readonly SearchValues<char> Special = SearchValues.Create("<{}|[]\n");

        private readonly List<Span> spans = [];
        private readonly List<(Opening Kind, int At)> open = [];
        private readonly List<Opening> openBraces = []; // those of open that braces close
        private readonly int[] count = new int[Enum.GetValues<Opening>().Length];
        private readonly HashSet<string> neverClosed = []; // elements without another closing tag

        private enum Opening
        {
            Template,
            Parameter,
            Table,
            Link,
            External,
        }

        /// <summary>Sorted by their beginnings; they nest, they do not overlap.</summary>
        public List<Span> Spans()
        {
            for (int i = 0; i < markup.Length; )
            {
                int skip = markup.AsSpan(i).IndexOfAny(Special);
                if (skip < 0)
                {
                    break;
                }
                i += skip;
                i = markup[i] switch
                {
                    '<' => Tag(i),
                    '{' => OpenBraces(i),
                    '}' => CloseBraces(i),
                    '|' => CloseTable(i),
                    '[' => OpenBracket(i),
                    ']' => CloseBracket(i),
                    _ => EndLine(i),
                };
            }
            spans.Sort((a, b) => a.Start.CompareTo(b.Start));
            return spans;
        }

        private int Tag(int i)
        {
            if (markup.AsSpan(i).StartsWith("<!--"))
            {
                int end = markup.IndexOf("-->", i + 4, StringComparison.Ordinal);
                return Add(i, end < 0 ? markup.Length : end + 3, Construct.Tag);
            }
            bool closes = i + 1 < markup.Length && markup[i + 1] == '/';
            int nameAt = i + (closes ? 2 : 1);
            string name = NameAt(nameAt);
            int tagEnd = markup.AsSpan(nameAt).IndexOfAny('<', '>') is var found and >= 0 ? nameAt + found : -1;
            bool isElement = KnownElements.Contains(name) || DroppedElements.Contains(name);
            if (!isElement || tagEnd < 0 || markup[tagEnd] == '<')
            {
                return i + 1;
            }
            bool opens = !closes && markup[tagEnd - 1] != '/';
            if (opens && DroppedElements.Contains(name) && ClosingTag(name, tagEnd + 1) is { } closing)
            {
                int end = markup.IndexOf('>', closing);
                return Add(i, end < 0 ? markup.Length : end + 1, Construct.Dropped);
            }
            Add(i, tagEnd + 1, name == "br" ? Construct.Break : Construct.Tag);
            return opens && name is "nowiki" or "pre" ? ClosingTag(name, tagEnd + 1) ?? tagEnd + 1 : tagEnd + 1;
        }

        private string NameAt(int i)
        {
            const int longest = 20;
            int end = i;
            while (end < markup.Length && end < i + longest && char.IsAsciiLetterOrDigit(markup[end]))
            {
                end++;
            }
            return markup[i..end].ToLowerInvariant();
        }

        private int? ClosingTag(string name, int from)
        {
            if (neverClosed.Contains(name))
            {
                return null;
            }
            string tag = "</" + name;
            for (int i = from; (i = markup.IndexOf(tag, i, StringComparison.OrdinalIgnoreCase)) >= 0; i += tag.Length)
            {
                if (NameAt(i + 2) == name)
                {
                    return i;
                }
            }
            neverClosed.Add(name);
            return null;
        }

        private int OpenBraces(int i)
        {
            int end = EndOfRun(i);
            if (end - i == 1)
            {
                bool isTable = end < markup.Length && markup[end] == '|' && IsLineStart(i);
                return isTable ? Open(Opening.Table, i, 2) : end;
            }
            // An odd run is templates around one parameter: {{{{{1}}}}}.
            while (end - i >= 2)
            {
                i = end - i == 3 ? Open(Opening.Parameter, i, 3) : Open(Opening.Template, i, 2);
            }
            return end;
        }

        private int CloseBraces(int i)
        {
            int end = EndOfRun(i);
            while (end - i >= 2 && count[(int)Opening.Template] + count[(int)Opening.Parameter] > 0)
            {
                var (kind, at) = Close(opening => opening is Opening.Template or Opening.Parameter);
                i = Add(at, i + (kind == Opening.Parameter && end - i >= 3 ? 3 : 2), Construct.Dropped);
            }
            return end;
        }

        /// <summary>"|}" at the beginning of a line; "|}}" there closes the template in which it stands.</summary>
        private int CloseTable(int i)
        {
            bool isClosing =
                i + 1 < markup.Length && markup[i + 1] == '}' && count[(int)Opening.Table] > 0 && IsLineStart(i);
            bool isTemplate = i + 2 < markup.Length && markup[i + 2] == '}' && openBraces is [.., not Opening.Table];
            return isClosing && !isTemplate
                ? Add(Close(opening => opening == Opening.Table).At, i + 2, Construct.Dropped)
                : i + 1;
        }

        private int OpenBracket(int i)
        {
            var rest = markup.AsSpan(i + 1);
            if (rest.StartsWith("["))
            {
                return Open(Opening.Link, i, 2);
            }
            foreach (string scheme in Schemes)
            {
                if (rest.StartsWith(scheme, StringComparison.OrdinalIgnoreCase))
                {
                    return Open(Opening.External, i, 1);
                }
            }
            return i + 1;
        }

        private int CloseBracket(int i)
        {
            if (open is [.., (Opening.External, _)])
            {
                return Add(Close(opening => opening == Opening.External).At, i + 1, Construct.External);
            }
            bool isLink = i + 1 < markup.Length && markup[i + 1] == ']' && count[(int)Opening.Link] > 0;
            return isLink ? Add(Close(opening => opening == Opening.Link).At, i + 2, Construct.Link) : i + 1;
        }

        private int EndLine(int i)
        {
            while (open is [.., (Opening.External, _)])
            {
                Pop();
            }
            return i + 1;
        }

        private int Open(Opening kind, int at, int length)
        {
            open.Add((kind, at));
            count[(int)kind]++;
            if (kind <= Opening.Table)
            {
                openBraces.Add(kind);
            }
            return at + length;
        }

        /// <summary>Takes off the last of a kind that is open, and what was opened inside it and never closed.</summary>
        private (Opening Kind, int At) Close(Func<Opening, bool> isWanted)
        {
            while (!isWanted(open[^1].Kind))
            {
                Pop();
            }
            return Pop();
        }

        private (Opening Kind, int At) Pop()
        {
            var last = open[^1];
            open.RemoveAt(open.Count - 1);
            count[(int)last.Kind]--;
            if (last.Kind <= Opening.Table)
            {
                openBraces.RemoveAt(openBraces.Count - 1);
            }
            return last;
        }

        private int Add(int start, int end, Construct kind)
        {
            spans.Add(new Span(start, end, kind));
            return end;
        }

        private int EndOfRun(int i)
        {
            int length = markup.AsSpan(i).IndexOfAnyExcept(markup[i]);
            return length < 0 ? markup.Length : i + length;
        }

        private bool IsLineStart(int i)
        {
            int lowest = Math.Max(0, i - MaximumIndent);
            int before = i - 1;
            while (before >= lowest && markup[before] is ' ' or ':' or '\t')
            {
                before--;
            }
            return before < 0 || markup[before] == '\n';
        }
    }
}
