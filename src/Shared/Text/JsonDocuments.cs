using System.Globalization;
using System.Text.Json;

namespace Pipeline.Shared.Text;

/// <summary>Documents written as JSON objects {id, title, text}, of which <c>text</c> must be there.</summary>
internal static class JsonDocuments
{
    private const string Expected = "{\"id\", \"title\", \"text\"}";

    /// <summary>The objects of a file that has one a line, each good until the next is asked for.</summary>
    /// <returns>Where it stands, for messages; an id for an object that has none, the same wherever the file lies.</returns>
    public static IEnumerable<(JsonElement Json, string Where, string Id)> Lines(string file)
    {
        string name = Path.GetFileName(TextFile.PlainPath(file));
        foreach (var (number, line) in BoundedLines.Read(file))
        {
            if (!string.IsNullOrWhiteSpace(line))
            {
                string at = number.ToString(CultureInfo.InvariantCulture);
                string where = $"{file}: line {at}";
                using var json = Parse(line, where);
                yield return (json.RootElement, where, $"{name}#{at}");
            }
        }
    }

    /// <param name="json">An object.</param>
    /// <param name="where">File and place, for messages.</param>
    /// <param name="otherwise">The id of an object without one.</param>
    public static Document Of(JsonElement json, string where, string otherwise) =>
        Decoded(
            where,
            () =>
                new Document(Field(json, "id") ?? otherwise, Field(json, "title") ?? "", Required(json, "text", where))
        );

    /// <summary>A JSON string that is a whole text.</summary>
    public static string Text(JsonElement json, string where) => Decoded(where, () => json.GetString()!);

    /// <summary>A field as text, null where it is absent.</summary>
    public static string? Field(JsonElement json, string name) =>
        json.ValueKind == JsonValueKind.Object
        && json.TryGetProperty(name, out var value)
        && value.ValueKind != JsonValueKind.Null
            ? value.ToString()
            : null;

    /// <summary>A field that must be there and be text.</summary>
    public static string Required(JsonElement json, string name, string where) =>
        json.ValueKind == JsonValueKind.Object
        && json.TryGetProperty(name, out var text)
        && text.ValueKind == JsonValueKind.String
            ? text.GetString()!
            : throw Malformed(where, new JsonException($"no object with a string '{name}'"));

    /// <summary>Reads strings, which System.Text.Json decodes when they are asked for.</summary>
    public static T Decoded<T>(string where, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (InvalidOperationException e) // text that is not UTF-8, or half a surrogate pair
        {
            throw Malformed(where, e);
        }
    }

    public static ConfigurationException Malformed(string where, Exception inner) =>
        new(new Fault(where, inner.Message, Expected, "Correct it").ToString(), inner);

    private static JsonDocument Parse(string line, string where)
    {
        try
        {
            return JsonDocument.Parse(line);
        }
        catch (JsonException e)
        {
            throw Malformed(where, e);
        }
    }
}
