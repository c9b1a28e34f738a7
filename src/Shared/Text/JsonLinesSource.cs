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
            var root = json.RootElement;
            string Field(string name, string otherwise) =>
                root.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null
                    ? value.ToString()
                    : otherwise;
            if (
                root.ValueKind != JsonValueKind.Object
                || !root.TryGetProperty("text", out var text)
                || text.ValueKind != JsonValueKind.String
            )
            {
                throw new JsonException("no object with a string 'text'");
            }
            return new Document(Field("id", where), Field("title", ""), text.GetString()!);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new ConfigurationException(
                new Fault(where, e.Message, "{\"id\", \"title\", \"text\"}", "Correct the line").ToString(),
                e
            );
        }
    }
}
