using System.Text.Json;

namespace Pipeline.Shared.Text;

/// <summary>Documents written as JSON objects {id, title, text}, of which <c>text</c> must be there.</summary>
internal static class JsonDocuments
{
    public static Document Of(JsonElement json, string where)
    {
        try
        {
            return Read(json, where);
        }
        catch (InvalidOperationException e) // text that is not UTF-8, or half a surrogate pair
        {
            throw Malformed(where, e);
        }
    }

    /// <summary>A JSON string that is a whole text.</summary>
    public static string Text(JsonElement json, string where)
    {
        try
        {
            return json.GetString()!;
        }
        catch (InvalidOperationException e)
        {
            throw Malformed(where, e);
        }
    }

    private static Document Read(JsonElement json, string where)
    {
        if (
            json.ValueKind != JsonValueKind.Object
            || !json.TryGetProperty("text", out var text)
            || text.ValueKind != JsonValueKind.String
        )
        {
            throw Malformed(where, new JsonException("no object with a string 'text'"));
        }
        string Field(string name, string otherwise) =>
            json.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null
                ? value.ToString()
                : otherwise;
        return new Document(Field("id", where), Field("title", ""), text.GetString()!);
    }

    public static ConfigurationException Malformed(string where, Exception inner) =>
        new(new Fault(where, inner.Message, "{\"id\", \"title\", \"text\"}", "Correct it").ToString(), inner);
}
