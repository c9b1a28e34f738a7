namespace Pipeline.Shared.Text;

/// <summary>
/// WikiText files (*.raw, *.tokens): articles under <c> = Title = </c> headings, one document each, the heading part of its text
/// as in the benchmark; a heading alone is no document.
/// </summary>
public sealed class WikiTextSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => Path.GetExtension(TextFile.PlainPath(path)) is ".raw" or ".tokens";

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile);

    private static IEnumerable<Document> ReadFile(string file)
    {
        string name = Path.GetFileName(TextFile.PlainPath(file));
        string title = "";
        bool isHeadingAlone = true;
        var body = new BoundedText(file);
        int index = 0;
        foreach (var (_, line) in BoundedLines.Read(file))
        {
            bool isTitle =
                line.StartsWith(" = ", StringComparison.Ordinal)
                && line.TrimEnd().EndsWith(" =", StringComparison.Ordinal)
                && !line.StartsWith(" = = ", StringComparison.Ordinal);
            if (isTitle)
            {
                string text = body.Take().Trim();
                if (!isHeadingAlone)
                {
                    yield return new Document($"{name}#{index++}", title, text);
                }
                title = line.Trim().Trim('=').Trim();
                isHeadingAlone = true;
            }
            else if (!string.IsNullOrWhiteSpace(line))
            {
                isHeadingAlone = false;
            }
            body.AppendLine(line);
        }
        if (!isHeadingAlone)
        {
            yield return new Document($"{name}#{index}", title, body.Take().Trim());
        }
    }
}
