namespace Pipeline.Shared.Artifacts;

/// <summary>A file being written under a temporary name; disposing it without <see cref="Commit"/> removes it.</summary>
public sealed class PendingFile : IDisposable
{
    private readonly string path;
    private readonly string temporary;
    private readonly FileStream file;
    private readonly HashingStream hashing;
    private bool committed;

    internal PendingFile(string path, string temporary)
    {
        this.path = path;
        this.temporary = temporary;
        file = new FileStream(temporary, FileMode.CreateNew, FileAccess.Write, FileShare.None, 1 << 16);
        hashing = new HashingStream(file);
    }

    /// <summary>Write only, from the first byte to the last.</summary>
    public Stream Stream => hashing;

    /// <summary>Flushes the bytes to disk, renames the file to its name, and flushes the folder.</summary>
    public FileDigest Commit()
    {
        var digest = hashing.Digest();
        file.Flush(flushToDisk: true);
        file.Dispose();
#pragma warning disable RS0030 // this is the place that may rename
        File.Move(temporary, path, overwrite: true);
#pragma warning restore RS0030
        committed = true;
        AtomicFile.FlushFolder(Path.GetDirectoryName(Path.GetFullPath(path))!);
        return digest;
    }

    public void Dispose()
    {
        file.Dispose();
        hashing.Dispose();
        if (!committed)
        {
            File.Delete(temporary);
        }
    }
}
