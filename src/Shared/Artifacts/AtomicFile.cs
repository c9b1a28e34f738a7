using System.Buffers;
using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// Publishes a file whole or not at all, whenever the process or the machine stops:
/// temporary name in the same folder -> write and hash -> flush to disk -> rename -> flush the folder.
/// </summary>
public static class AtomicFile
{
    private const string TemporaryMark = ".tmp-";
    private const int ReadBytes = 1 << 20;

    /// <summary>Publishes what <paramref name="write"/> writes; when it throws, nothing is left behind.</summary>
    /// <param name="path">The file's final path; a file already there is replaced, missing folders are created.</param>
    /// <param name="write">Writes the content; the stream is forward-only and knows its Position.</param>
    /// <exception cref="StageFailedException">The disk is full.</exception>
    public static FileDigest Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        using var pending = Begin(path);
        write(pending.Stream);
        return pending.Commit();
    }

    /// <summary>Publishes <paramref name="text"/> as UTF-8 without a byte order mark.</summary>
    /// <exception cref="StageFailedException">The disk is full.</exception>
    public static FileDigest WriteText(string path, string text) =>
        Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>Starts a file that <see cref="PendingFile.Commit"/> publishes.</summary>
    public static PendingFile Begin(string path)
    {
        string full = Path.GetFullPath(path);
        string folder =
            Path.GetDirectoryName(full) ?? throw new ArgumentException($"'{path}' names no file", nameof(path));
        FolderSync.Create(folder);
        string temporary = Path.Combine(folder, $".{Path.GetFileName(full)}{TemporaryMark}{Guid.NewGuid():N}");
        return new PendingFile(full, temporary);
    }

    /// <summary>Hashes the file as it lies on disk.</summary>
    /// <exception cref="IOException">The file is absent or unreadable.</exception>
    public static FileDigest Digest(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        return Digest(stream);
    }

    /// <summary>Hashes <paramref name="stream"/> from its position to its end.</summary>
    public static FileDigest Digest(Stream stream)
    {
        ArgumentNullException.ThrowIfNull(stream);
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(ReadBytes);
        try
        {
            long bytes = 0;
            for (int read; (read = stream.Read(buffer, 0, ReadBytes)) > 0; bytes += read)
            {
                hash.AppendData(buffer, 0, read);
            }
            return new FileDigest(bytes, Convert.ToHexStringLower(hash.GetHashAndReset()));
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
    }

    /// <summary>
    /// Deletes the temporaries that killed processes left in <paramref name="folder"/> (not in its subfolders). Only for
    /// a folder nobody writes into at the moment: hold its <see cref="RunLock"/>.
    /// </summary>
    public static void RemoveTemporaries(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return;
        }
        foreach (string path in Directory.EnumerateFiles(folder, $".*{TemporaryMark}*"))
        {
            string name = Path.GetFileName(path);
            int mark = name.LastIndexOf(TemporaryMark, StringComparison.Ordinal);
            if (Guid.TryParseExact(name[(mark + TemporaryMark.Length)..], "N", out _))
            {
                File.Delete(path);
            }
        }
    }
}
