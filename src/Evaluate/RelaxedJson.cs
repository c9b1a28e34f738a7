using System.Text.Encodings.Web;
using System.Text.Json;

namespace Pipeline.Evaluate;

/// <summary>JSON that people read: text stands as it is, but for what JSON itself forbids.</summary>
internal static class RelaxedJson
{
    public static JsonSerializerOptions Compact { get; } =
        new() { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    public static JsonSerializerOptions Indented { get; } = new(Compact) { WriteIndented = true };
}
