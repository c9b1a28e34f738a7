using System.Globalization;
using System.Text.Json;

namespace Pipeline.Shared.Text;

/// <summary>*.json: one array of texts, or of objects with <c>text</c>, and <c>id</c> and <c>title</c> where they have them.</summary>
public sealed class JsonArraySource(IReadOnlyList<string> files) : ITextSource
{
    public IReadOnlyList<string> Files => files;

    public static bool Reads(string path) =>
        TextFile.PlainPath(path).EndsWith(".json", StringComparison.OrdinalIgnoreCase);

    public IEnumerable<Document> Read() => files.SelectMany(ReadFile).Where(document => document.HasText);

    private static IEnumerable<Document> ReadFile(string file)
    {
        using var stream = new BoundedStretches(TextFile.Open(file), file, BoundedLines.MaximumCharacters);
        using var items = JsonSerializer
            .DeserializeAsyncEnumerable<JsonElement>(stream)
            .ToBlockingEnumerable()
            .GetEnumerator();
        for (int index = 0; MoveNext(items, stream, file, index); index++)
        {
            string where = string.Create(CultureInfo.InvariantCulture, $"{file}: item {index}");
            yield return items.Current.ValueKind == JsonValueKind.String
                ? new Document(
                    index.ToString(CultureInfo.InvariantCulture),
                    "",
                    JsonDocuments.Text(items.Current, where)
                )
                : JsonDocuments.Of(items.Current, where, index.ToString(CultureInfo.InvariantCulture));
        }
    }

    private static bool MoveNext(IEnumerator<JsonElement> items, BoundedStretches stream, string file, int index)
    {
        stream.BeginStretch();
        try
        {
            return items.MoveNext();
        }
        catch (JsonException e)
        {
            throw JsonDocuments.Malformed(string.Create(CultureInfo.InvariantCulture, $"{file}: item {index}"), e);
        }
    }
}
