using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// The finished files of a stage that is not finished, with their hashes, under <c>.work/</c> in its folder: a file that is
/// there, but not in here or with other bytes, was cut short or altered and is made again. Several processes may write at
/// once.
/// </summary>
internal sealed class PartJournal(string stageFolder)
{
    public const string FolderName = ".work";

    /// <summary>Files recorded so far.</summary>
    public int Count =>
        Directory.Exists(Root) ? Directory.EnumerateFiles(Root, "*.json", SearchOption.AllDirectories).Count() : 0;

    private string Root => Path.Combine(stageFolder, FolderName);

    /// <summary>Records a file that was published under <paramref name="name"/>.</summary>
    /// <exception cref="StageFailedException">Another process published the same part with other bytes.</exception>
    public void Record(string name, FileDigest digest)
    {
        if (Read(name) is { } earlier && earlier != digest)
        {
            throw new StageFailedException(
                new Fault(
                    Path.Combine(stageFolder, name),
                    $"SHA-256 {digest.Sha256} from one process and {earlier.Sha256} from another",
                    "the same bytes from both",
                    "Two workers differ (threads, versions, instruction set): stop them, delete the stage's folder, and "
                        + "run again on machines of one kind"
                ).ToString()
            );
        }
        AtomicFile.WriteText(EntryPath(name), digest.ToJson().ToJsonString());
    }

    /// <summary>The digest of a recorded file that still has it; the file is read whole. Null for any other.</summary>
    public FileDigest? Verified(string name)
    {
        string path = Path.Combine(stageFolder, name);
        return
            Read(name) is { } recorded
            && File.Exists(path)
            && new FileInfo(path).Length == recorded.Bytes
            && AtomicFile.Digest(path) == recorded
            ? recorded
            : null;
    }

    public void Delete()
    {
        if (Directory.Exists(Root))
        {
            Directory.Delete(Root, recursive: true);
        }
    }

    private string EntryPath(string name) => Path.Combine(Root, name + ".json");

    private FileDigest? Read(string name)
    {
        try
        {
            return FileDigest.From(JsonNode.Parse(File.ReadAllText(EntryPath(name))));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or JsonException)
        {
            return null; // no entry, or a damaged one: the part is made again
        }
    }
}
