namespace Pipeline.Shared.Artifacts;

/// <summary>
/// A file being written under a temporary name. <see cref="Commit"/> publishes it; disposing it without a commit removes
/// every trace of it.
/// </summary>
public sealed class PendingFile : IDisposable
{
    private const int BufferBytes = 1 << 16;

    private readonly string temporary;
    private readonly FileStream file;
    private readonly HashingStream hashing;
    private bool committed;

    internal PendingFile(string path, string temporary)
    {
        Path = path;
        this.temporary = temporary;
        file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, BufferBytes);
        hashing = new HashingStream(file, path);
        Failpoints.Pass("created", path);
    }

    /// <summary>The absolute path the file will have once committed.</summary>
    public string Path { get; }

    /// <summary>Where the content goes, front to back; its Position is the number of bytes written so far.</summary>
    public Stream Stream => hashing;

    /// <summary>Flushes the content to disk, gives it its final name and flushes the folder.</summary>
    /// <exception cref="StageFailedException">The disk is full.</exception>
    public FileDigest Commit()
    {
        if (committed)
        {
            throw new InvalidOperationException($"{Path} is already committed");
        }
        Failpoints.Pass("written", Path);
        var digest = hashing.Finish();
        file.Dispose();
        Failpoints.Pass("flushed", Path);
#pragma warning disable RS0030 // The one place where a rename publishes a file.
        File.Move(temporary, Path, overwrite: true);
#pragma warning restore RS0030
        committed = true;
        Failpoints.Pass("renamed", Path);
        FolderSync.Flush(System.IO.Path.GetDirectoryName(Path)!);
        Failpoints.Pass("published", Path);
        return digest;
    }

    public void Dispose()
    {
        if (!committed)
        {
            try
            {
                file.Dispose(); // flushes what is buffered, which fails again on a full disk
            }
            catch (IOException) { }
            finally
            {
                File.Delete(temporary);
            }
        }
        hashing.Dispose();
    }
}
