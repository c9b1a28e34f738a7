using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>What a file holds, in short: its length in bytes and the lowercase hex SHA-256 of its content.</summary>
public sealed record FileDigest(long Bytes, string Sha256)
{
    public JsonObject ToJson() => new() { ["bytes"] = Bytes, ["sha256"] = Sha256 };

    /// <summary>The digest in <paramref name="json"/>, or null where it holds none.</summary>
    public static FileDigest? From(JsonNode? json) =>
        json is JsonObject digest
        && digest["bytes"] is JsonValue bytes
        && bytes.TryGetValue(out long length)
        && digest["sha256"] is JsonValue hash
        && hash.TryGetValue(out string? sha256)
            ? new FileDigest(length, sha256)
            : null;
}
