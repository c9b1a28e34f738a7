using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>JSON files that carry a hash of themselves, <c>self_sha256</c>: an altered one is noticed, not believed.</summary>
internal static class SealedJson
{
    private const string SelfHash = "self_sha256";
    private const long MaximumBytes = 256L << 20;

    private static readonly JsonDocumentOptions Strict = new() { MaxDepth = 64, AllowDuplicateProperties = false };

    private static readonly JsonSerializerOptions Indented = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        WriteIndented = true,
    };

    /// <summary>Publishes <paramref name="json"/>, which gains the hash.</summary>
    public static FileDigest Write(string path, JsonObject json)
    {
        json[SelfHash] = CanonicalJson.Sha256(json);
        return AtomicFile.WriteText(path, json.ToJsonString(Indented) + "\n");
    }

    /// <summary>The object without its hash; null where there is no file.</summary>
    /// <exception cref="CorruptArtifactException">Not such a file, or an altered one.</exception>
    public static JsonObject? TryRead(string path)
    {
        if (!File.Exists(path))
        {
            return null;
        }
        if (new FileInfo(path).Length > MaximumBytes)
        {
            throw Corrupt(path, "a file of more than 256 MB", "a small JSON file");
        }
        try
        {
            var json =
                JsonNode.Parse(File.ReadAllBytes(path), documentOptions: Strict) as JsonObject
                ?? throw new JsonException("the top level is not an object");
            string? stated = json[SelfHash] is JsonValue value && value.TryGetValue(out string? text) ? text : null;
            json.Remove(SelfHash);
            string actual = CanonicalJson.Sha256(json);
            return stated == actual
                ? json
                : throw Corrupt(
                    path,
                    $"{SelfHash} {stated ?? "absent"}",
                    $"{actual}, the hash of the rest of the file"
                );
        }
        // The nodes are read lazily: damaged text may show only when it is hashed.
        catch (Exception e)
            when (e is JsonException or InvalidOperationException or FormatException or ArgumentException)
        {
            throw Corrupt(path, e.Message, "JSON this program wrote", e);
        }
    }

    public static CorruptArtifactException Corrupt(
        string path,
        string found,
        string expected,
        Exception? inner = null
    ) =>
        new(
            new Fault(path, found, expected, "Restore it from a copy, or delete it and run the stage again").ToString(),
            inner
        );
}
