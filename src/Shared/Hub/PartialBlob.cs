using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Hub;

/// <summary>
/// A download on its way: <c>blobs/ETAG.incomplete</c>, the name under which huggingface_hub resumes too. AtomicFile
/// serves no such file: its temporaries are thrown away with their process, and this one must outlive it.
/// </summary>
/// <remarks>
/// Every chunk is handed to the operating system as it arrives, so that a killed process loses only what it had not yet
/// read; a flush to disk every 8 MiB bounds what a power cut takes. Neither says that the bytes on disk are right: opening
/// hashes them again, and nothing is published before the whole hash fits.
/// </remarks>
internal sealed class PartialBlob : IDisposable
{
    private const long FlushEvery = 8 << 20;
    private const int ReadBytes = 1 << 20;

    private readonly string path;
    private readonly HubFile file;
    private readonly FileStream stream;
    private readonly BlobHash hash;
    private long flushed;

    /// <summary>Takes up what an earlier process left of <paramref name="file"/>, which is hashed again.</summary>
    /// <param name="finalPath">The blob's final path; the caller holds its lock.</param>
    /// <param name="file">What the bytes must become.</param>
    /// <param name="cancel">Ends the hashing, which takes minutes for a hundred gigabytes; nothing is lost.</param>
    public PartialBlob(string finalPath, HubFile file, CancellationToken cancel)
    {
        FinalPath = finalPath;
        this.file = file;
        path = finalPath + ".incomplete";
        hash = new BlobHash(file);
        stream = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None, bufferSize: 0);
        try
        {
            TakeUp(cancel);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public string FinalPath { get; }

    /// <summary>Bytes received; the next ones belong here.</summary>
    public long Length { get; private set; }

    public bool IsWhole => Length == file.Size;

    public void Append(ReadOnlySpan<byte> bytes)
    {
        stream.Write(bytes);
        hash.Append(bytes);
        Length += bytes.Length;
        if (Length - flushed >= FlushEvery)
        {
            stream.Flush(flushToDisk: true);
            flushed = Length;
        }
    }

    /// <summary>Throws away what was received.</summary>
    public void Restart()
    {
        stream.SetLength(0);
        stream.Position = 0;
        hash.Restart();
        flushed = Length = 0;
    }

    /// <summary>
    /// Gives the file its final name when it is whole and its hash is right: flush to disk -> rename -> flush the folder.
    /// Otherwise starts over.
    /// </summary>
    public bool TryPublish()
    {
        if (!IsWhole || !hash.IsRight())
        {
            Restart();
            return false;
        }
        stream.Flush(flushToDisk: true);
        stream.Dispose(); // its lock would refuse whoever opens the blob at once
#pragma warning disable RS0030 // The one place where a rename publishes a download; see the class' remarks.
        File.Move(path, FinalPath, overwrite: true);
#pragma warning restore RS0030
        FolderSync.Flush(Path.GetDirectoryName(FinalPath)!);
        return true;
    }

    /// <summary>Removes the partial file: what is in it cannot become the file.</summary>
    public void Delete() => File.Delete(path);

    public void Dispose()
    {
        stream.Dispose();
        hash.Dispose();
    }

    private void TakeUp(CancellationToken cancel)
    {
        if (stream.Length > file.Size)
        {
            stream.SetLength(0);
        }
        long there = stream.Length;
        byte[] buffer = new byte[(int)Math.Min(ReadBytes, Math.Max(there, 1))];
        while (Length < there)
        {
            cancel.ThrowIfCancellationRequested();
            int read = stream.Read(buffer, 0, (int)Math.Min(buffer.Length, there - Length));
            if (read == 0)
            {
                throw new EndOfStreamException($"{path} was cut while it was read");
            }
            hash.Append(buffer.AsSpan(0, read));
            Length += read;
        }
        flushed = Length;
    }
}
