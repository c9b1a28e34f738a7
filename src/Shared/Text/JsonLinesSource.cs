using System.Text.Json;

namespace Pipeline.Shared.Text;

/// <summary>*.jsonl: one object a line with <c>text</c>, and <c>id</c> and <c>title</c> where it has them.</summary>
public sealed class JsonLinesSource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) => path.EndsWith(".jsonl", StringComparison.OrdinalIgnoreCase);

    public IEnumerable<Document> Read()
    {
        foreach (string file in files)
        {
            foreach (var (number, line) in BoundedLines.Read(file))
            {
                if (!string.IsNullOrWhiteSpace(line))
                {
                    yield return Parse(line, $"{file}: line {number}");
                }
            }
        }
    }

    private static Document Parse(string line, string where)
    {
        try
        {
            using var json = JsonDocument.Parse(line);
            return JsonDocuments.Of(json.RootElement, where);
        }
        catch (JsonException e)
        {
            throw JsonDocuments.Malformed(where, e);
        }
    }
}
