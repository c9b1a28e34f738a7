namespace Pipeline.Shared.Text;

/// <summary>*.jsonl: one object a line with <c>text</c>, and <c>id</c> and <c>title</c> where it has them.</summary>
public sealed class JsonLinesSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) =>
        TextFile.PlainPath(path).EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase) && !FeverSource.Reads(path);

    public IEnumerable<Document> Read() =>
        files.SelectMany(file =>
            JsonDocuments
                .Lines(file)
                .Select(line => JsonDocuments.Of(line.Json, line.Where, line.Id))
                .Where(document => document.HasText)
        );
}
