using System.Globalization;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>A checkpoint found whole.</summary>
/// <param name="Step">Steps done.</param>
/// <param name="Path">Its file, whose bytes are those that were written.</param>
/// <param name="Words">What was saved beside it.</param>
public sealed record Checkpoint(long Step, string Path, JsonObject Words);

/// <summary>
/// The latest checkpoint of unfinished work: <c>checkpoint-STEP.safetensors</c>, then <c>checkpoint.json</c>, which names it
/// with its hash and takes the place of the one before. Whatever is killed when, one whole checkpoint is left.
/// </summary>
public sealed class CheckpointFolder(string folder)
{
    private const string IndexName = "checkpoint.json";

    /// <param name="step">Steps done.</param>
    /// <param name="write">Writes the state.</param>
    /// <param name="words">Further words, such as the length of a metrics file.</param>
    /// <exception cref="StageFailedException">The disk is full; the checkpoint before stays.</exception>
    public void Save(long step, Action<Stream> write, JsonObject words)
    {
        string name = string.Create(CultureInfo.InvariantCulture, $"checkpoint-{step:D9}.safetensors");
        var digest = AtomicFile.Write(Path.Combine(folder, name), write);
        var index = new JsonObject
        {
            ["step"] = step,
            ["file"] = name,
            ["digest"] = digest.ToJson(),
            ["words"] = words.DeepClone(),
        };
        SealedJson.Write(Path.Combine(folder, IndexName), index);
        foreach (string other in Directory.EnumerateFiles(folder, "checkpoint-*.safetensors"))
        {
            if (Path.GetFileName(other) != name)
            {
                File.Delete(other);
                Failpoints.Pass("old checkpoint removed", other);
            }
        }
    }

    /// <summary>The checkpoint, its bytes read and compared with their hash; null where there is none.</summary>
    /// <exception cref="CorruptArtifactException">It was altered, or its file is gone.</exception>
    public Checkpoint? Open()
    {
        string indexPath = Path.Combine(folder, IndexName);
        if (SealedJson.TryRead(indexPath) is not { } index)
        {
            return null;
        }
        string name = index["file"]?.GetValue<string>() ?? "";
        var expected = FileDigest.From(index["digest"])!;
        if (!ArtifactPath.TryResolve(folder, name, out string? path) || !File.Exists(path))
        {
            throw SealedJson.Corrupt(Path.Combine(folder, name), "no file", $"the checkpoint {IndexName} names");
        }
        return new FileInfo(path).Length == expected.Bytes && AtomicFile.Digest(path) == expected
            ? new Checkpoint(index["step"]!.GetValue<long>(), path, index["words"]!.AsObject())
            : throw SealedJson.Corrupt(
                path,
                "bytes other than were written",
                $"SHA-256 {expected.Sha256} over {expected.Bytes} bytes"
            );
    }

    public void Delete()
    {
        if (Directory.Exists(folder))
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
