using System.Text;

namespace Pipeline.Shared.Text;

/// <summary>WikiText files (*.raw, *.tokens): articles under <c> = Title = </c> headings, one document each.</summary>
public sealed class WikiTextSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => Path.GetExtension(path) is ".raw" or ".tokens";

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile);

    private static IEnumerable<Document> ReadFile(string file)
    {
        string title = "";
        var body = new StringBuilder();
        int index = 0;
        foreach (var (_, line) in BoundedLines.Read(file))
        {
            bool isTitle =
                line.StartsWith(" = ", StringComparison.Ordinal)
                && line.TrimEnd().EndsWith(" =", StringComparison.Ordinal)
                && !line.StartsWith(" = = ", StringComparison.Ordinal);
            if (isTitle)
            {
                if (body.ToString().Trim().Length > 0)
                {
                    yield return new Document($"{Path.GetFileName(file)}#{index++}", title, body.ToString().Trim());
                }
                title = line.Trim().Trim('=').Trim();
                body.Clear();
            }
            body.Append(line).Append('\n');
        }
        if (body.ToString().Trim().Length > 0)
        {
            yield return new Document($"{Path.GetFileName(file)}#{index}", title, body.ToString().Trim());
        }
    }
}
