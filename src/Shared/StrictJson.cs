using System.Text.Json;

namespace Pipeline.Shared;

/// <summary>Foreign JSON, checked whole before any of it is used.</summary>
internal static class StrictJson
{
    /// <summary>
    /// Parses UTF-8 JSON. System.Text.Json decodes strings when they are asked for; here text that is not UTF-8, and halves
    /// of surrogate pairs, are found at once.
    /// </summary>
    /// <exception cref="JsonException">Anything wrong with it.</exception>
    public static JsonDocument Parse(ReadOnlyMemory<byte> utf8, JsonDocumentOptions options = default)
    {
        var reader = new Utf8JsonReader(utf8.Span, new JsonReaderOptions { MaxDepth = options.MaxDepth });
        try
        {
            while (reader.Read())
            {
                if (reader.TokenType is JsonTokenType.String or JsonTokenType.PropertyName)
                {
                    reader.GetString();
                }
            }
        }
        catch (InvalidOperationException e)
        {
            throw new JsonException(e.Message, e);
        }
        return JsonDocument.Parse(utf8, options);
    }
}
