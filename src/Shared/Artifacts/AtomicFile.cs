using System.Runtime.InteropServices;
using System.Text;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// The one way artifacts reach the disk: written under a temporary name, flushed, renamed, and the folder flushed. A
/// reader sees the old file or the whole new one, never a part.
/// </summary>
public static partial class AtomicFile
{
    private const string TemporaryMark = ".tmp-";

    /// <summary>Publishes what <paramref name="write"/> writes; if it throws, nothing appears under the final name.</summary>
    public static FileDigest Write(string path, Action<Stream> write)
    {
        using var pending = Begin(path);
        write(pending.Stream);
        return pending.Commit();
    }

    public static FileDigest WriteText(string path, string text) =>
        Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>Begins a file; it appears under its name on <see cref="PendingFile.Commit"/>.</summary>
    public static PendingFile Begin(string path)
    {
        string folder = Path.GetDirectoryName(Path.GetFullPath(path))!;
        Directory.CreateDirectory(folder);
        string temporary = Path.Combine(folder, $".{Path.GetFileName(path)}{TemporaryMark}{Guid.NewGuid():N}");
        return new PendingFile(path, temporary);
    }

    /// <summary>Removes what killed writers left in a folder and below.</summary>
    public static void RemoveTemporaries(string folder)
    {
        if (!Directory.Exists(folder))
        {
            return;
        }
        foreach (string file in Directory.EnumerateFiles(folder, $".*{TemporaryMark}*", SearchOption.AllDirectories))
        {
            File.Delete(file);
        }
    }

    /// <summary>Flushes a folder's entries to disk, which .NET cannot do itself; other systems than Unix need not.</summary>
    internal static void FlushFolder(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return;
        }
        int descriptor = Open(folder, 0);
        if (descriptor < 0)
        {
            throw new IOException($"{folder}: cannot be opened to flush it (errno {Marshal.GetLastPInvokeError()}).");
        }
        try
        {
            if (Fsync(descriptor) != 0)
            {
                throw new IOException($"{folder}: cannot be flushed (errno {Marshal.GetLastPInvokeError()}).");
            }
        }
        finally
        {
            _ = Close(descriptor);
        }
    }

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close", SetLastError = true)]
    private static partial int Close(int descriptor);
}
