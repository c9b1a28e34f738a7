using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// A JSON-lines file that grows with the work. A checkpoint keeps its length and hash: after a kill the file is cut back to
/// what the checkpoint knew, and refused if those bytes are others now.
/// </summary>
public sealed class MetricsLog(string path)
{
    private readonly StringBuilder lines = new();

    public void Add(JsonObject line)
    {
        ArgumentNullException.ThrowIfNull(line);
        lines.Append(line.ToJsonString()).Append('\n');
        Last = line;
    }

    /// <summary>The latest line, or null.</summary>
    public JsonObject? Last { get; private set; }

    public FileDigest Write() => AtomicFile.WriteText(path, lines.ToString());

    /// <summary>Takes up the file as a checkpoint knew it.</summary>
    /// <exception cref="CorruptArtifactException">It is gone, shorter, or other in what the checkpoint knew.</exception>
    public void Restore(FileDigest known)
    {
        ArgumentNullException.ThrowIfNull(known);
        byte[] bytes = File.Exists(path) ? File.ReadAllBytes(path) : [];
        bool whole =
            bytes.Length >= known.Bytes
            && Convert.ToHexStringLower(SHA256.HashData(bytes.AsSpan(0, (int)known.Bytes))) == known.Sha256;
        if (!whole)
        {
            throw SealedJson.Corrupt(
                path,
                $"{bytes.Length} bytes that do not begin as they did",
                $"{known.Bytes} bytes of SHA-256 {known.Sha256}, as the checkpoint says"
            );
        }
        string text = Encoding.UTF8.GetString(bytes, 0, (int)known.Bytes);
        lines.Clear().Append(text);
        int last = text.TrimEnd('\n').LastIndexOf('\n') + 1;
        Last = text.Length > 0 ? JsonNode.Parse(text[last..])!.AsObject() : null;
    }
}
