namespace Pipeline.Shared.Text;

/// <summary>*.txt: one document a file.</summary>
public sealed class PlainTextSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) =>
        TextFile.PlainPath(path).EndsWith(".txt", StringComparison.OrdinalIgnoreCase);

    public IEnumerable<Document> Read() => files.Select(ReadFile).Where(document => document.HasText);

    private static Document ReadFile(string file)
    {
        string name = Path.GetFileName(TextFile.PlainPath(file));
        var text = new BoundedText(file);
        foreach (var (_, line) in BoundedLines.Read(file))
        {
            text.AppendLine(line);
        }
        return new Document(name, Path.GetFileNameWithoutExtension(name), text.Take().TrimEnd('\n'));
    }
}
