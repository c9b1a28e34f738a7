using System.Globalization;
using System.Text;
using System.Text.RegularExpressions;
using System.Xml;

namespace Pipeline.Shared.Text;

/// <summary>
/// MediaWiki's XML: *.xml or *.xml-pNpM of pages-articles dumps and of Special:Export. Pages of namespace 0, without
/// redirects, as plain text (see <see cref="Wikitext"/>); the last revision where a page has several.
/// </summary>
public sealed partial class MediaWikiSource(IReadOnlyList<string> files) : ITextSource
{
    /// <summary>MediaWiki refuses pages beyond 2 MB of wikitext; the bytes between two revisions' ends bound what is in memory.</summary>
    private const int MaximumRevisionBytes = 32 << 20;
    private const int MaximumDepth = 16;

    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => Name().IsMatch(TextFile.PlainPath(path));

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile).Where(document => document.HasText);

    private static IEnumerable<Document> ReadFile(string file)
    {
        using var stream = new BoundedStretches(TextFile.Open(file), file, MaximumRevisionBytes);
        using var text = TextFile.Reader(stream);
        using var dump = new Dump(text, stream, file);
        while (dump.NextPage() is { } page)
        {
            if (page.IsArticle(dump.OtherNamespaces))
            {
                yield return new Document(page.Id, page.Title, new Wikitext(dump.HiddenLinks).ToPlain(page.Text));
            }
        }
    }

    [GeneratedRegex(@"\.xml(-p\d+p\d+[^/\\]*)?\z", RegexOptions.IgnoreCase)]
    private static partial Regex Name();

    private sealed class Page
    {
        public string Id { get; set; } = "";
        public string Title { get; set; } = "";
        public string Text { get; set; } = "";

        /// <summary>Null in the oldest dumps, where the title alone says it.</summary>
        public string? Namespace { get; set; }
        public bool IsRedirect { get; set; }

        /// <summary>wikitext, or a program's language.</summary>
        public string Model { get; set; } = "wikitext";

        public bool IsArticle(HashSet<string> otherNamespaces) =>
            !IsRedirect
            && Model == "wikitext"
            && (Namespace is null ? !otherNamespaces.Contains(Wikitext.PrefixOf(Title)) : Namespace == "0")
            && !Text.StartsWith("#REDIRECT", StringComparison.OrdinalIgnoreCase);
    }

    /// <summary>Reads on from page to page.</summary>
    private sealed class Dump : IDisposable
    {
        private readonly BoundedStretches stream;
        private readonly string file;
        private readonly XmlReader xml;

        /// <param name="text">Reads what <paramref name="stream"/> holds.</param>
        /// <param name="stream">Told where pages end.</param>
        /// <param name="file">For messages.</param>
        public Dump(StreamReader text, BoundedStretches stream, string file)
        {
            (this.stream, this.file) = (stream, file);
            xml = Worded(() =>
                XmlReader.Create(
                    text,
                    new XmlReaderSettings
                    {
                        DtdProcessing = DtdProcessing.Prohibit,
                        XmlResolver = null,
                        IgnoreComments = true,
                        IgnoreProcessingInstructions = true,
                    }
                ) // which reads the file's first bytes
            );
        }

        /// <summary>Lower-case names of files and categories, links to which show nothing in a text.</summary>
        public HashSet<string> HiddenLinks { get; } = ["file", "image", "media", "category"];

        /// <summary>Lower-case names of all namespaces but that of articles.</summary>
        public HashSet<string> OtherNamespaces { get; } = [];

        public Page? NextPage() => Worded(ReadToPage);

        private Page? ReadToPage()
        {
            Page? page = null;
            while (Move())
            {
                if (xml.NodeType == XmlNodeType.Element)
                {
                    if (xml.Depth == 0 && xml.LocalName != "mediawiki")
                    {
                        throw Malformed($"<{xml.LocalName}>", null);
                    }
                    page = xml is { Depth: 1, LocalName: "page" } ? new Page() : page;
                    Take(page);
                }
                else if (xml is { NodeType: XmlNodeType.EndElement, LocalName: "page" or "revision" })
                {
                    stream.BeginStretch();
                    if (xml.Depth == 1)
                    {
                        return page;
                    }
                }
            }
            return null;
        }

        /// <summary>Takes what an element says, its depth telling a page's id from its revision's and its author's.</summary>
        private void Take(Page? page)
        {
            switch (xml.Depth, xml.LocalName)
            {
                case (3, "namespace") when page is null:
                    TakeNamespace(xml.GetAttribute("key"), Value());
                    break;
                case (2, "title") when page is not null:
                    page.Title = Value();
                    break;
                case (2, "ns") when page is not null:
                    page.Namespace = Value().Trim();
                    break;
                case (2, "id") when page is not null:
                    page.Id = Value().Trim();
                    break;
                case (2, "redirect") when page is not null:
                    page.IsRedirect = true;
                    break;
                case (3, "model") when page is not null:
                    page.Model = Value().Trim();
                    break;
                case (3, "text") when page is not null:
                    page.Text = Value();
                    break;
                default:
                    break;
            }
        }

        private void TakeNamespace(string? key, string name)
        {
            if (name.Length > 0 && key != "0")
            {
                OtherNamespaces.Add(name.ToLowerInvariant());
            }
            if (key is "-2" or "6" or "14")
            {
                HiddenLinks.Add(name.ToLowerInvariant());
            }
        }

        /// <summary>The text of an element that has no others, which are malformed here.</summary>
        private string Value()
        {
            if (xml.IsEmptyElement)
            {
                return "";
            }
            var value = new StringBuilder();
            while (Move() && xml.NodeType != XmlNodeType.EndElement)
            {
                if (xml.NodeType == XmlNodeType.Element)
                {
                    throw Malformed($"<{xml.LocalName}> where text should be", null);
                }
                value.Append(xml.Value);
            }
            return value.ToString();
        }

        public void Dispose() => xml.Dispose();

        private bool Move()
        {
            bool moved = xml.Read();
            return !moved || xml.Depth <= MaximumDepth
                ? moved
                : throw Malformed($"elements {xml.Depth} levels deep", null);
        }

        private T Worded<T>(Func<T> read)
        {
            try
            {
                return read();
            }
            catch (XmlException e)
            {
                // The reader's own words on a DTD say how a program could allow one.
                throw Malformed(
                    e.Message.Contains("DTD", StringComparison.Ordinal) ? "a DTD" : e.Message.TrimEnd('.'),
                    e
                );
            }
            catch (DecoderFallbackException e)
            {
                throw BoundedLines.NotUtf8(file, Line, e);
            }
        }

        private int Line => Math.Max(1, (xml as IXmlLineInfo)?.LineNumber ?? 1);

        private ConfigurationException Malformed(string found, Exception? inner) =>
            new(
                new Fault(
                    string.Create(CultureInfo.InvariantCulture, $"{file}: line {Line}"),
                    found,
                    "a whole MediaWiki XML dump, without a DTD",
                    "Download or export it again"
                ).ToString(),
                inner
            );
    }
}
