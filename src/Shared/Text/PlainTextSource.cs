namespace Pipeline.Shared.Text;

/// <summary>*.txt: one document a file.</summary>
public sealed class PlainTextSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => path.EndsWith(".txt", StringComparison.OrdinalIgnoreCase);

    public IEnumerable<Document> Read() =>
        files.Select(file =>
        {
            string text = string.Join('\n', BoundedLines.Read(file).Select(line => line.Line));
            return new Document(Path.GetFileName(file), Path.GetFileNameWithoutExtension(file), text);
        });
}
