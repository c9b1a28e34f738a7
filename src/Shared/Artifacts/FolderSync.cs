using System.Runtime.InteropServices;

namespace Pipeline.Shared.Artifacts;

/// <summary>Makes names durable: .NET flushes files, but a rename or a new folder lasts only once its parent is flushed.</summary>
internal static partial class FolderSync
{
    private const int InvalidArgument = 22; // EINVAL: a file system that cannot flush folders

    /// <summary>Creates <paramref name="folder"/> and its missing ancestors, each durably.</summary>
    public static void Create(string folder)
    {
        if (Directory.Exists(folder))
        {
            return;
        }
        string? parent = Path.GetDirectoryName(folder);
        if (parent is not null)
        {
            Create(parent);
        }
        Directory.CreateDirectory(folder);
        if (parent is not null)
        {
            Flush(parent);
        }
    }

    /// <exception cref="IOException">The folder cannot be opened or flushed.</exception>
    public static void Flush(string folder)
    {
        if (OperatingSystem.IsWindows())
        {
            return; // NTFS journals names itself, and folders cannot be flushed there.
        }
        int descriptor = Open(folder, 0);
        if (descriptor < 0)
        {
            throw Failed(folder, Marshal.GetLastPInvokeError());
        }
        int error = Fsync(descriptor) == 0 ? 0 : Marshal.GetLastPInvokeError();
        _ = Close(descriptor);
        if (error is not (0 or InvalidArgument))
        {
            throw Failed(folder, error);
        }
    }

    private static IOException Failed(string folder, int error) =>
        new($"{folder}: the folder could not be flushed to disk: {Marshal.GetPInvokeErrorMessage(error)}", error);

    [LibraryImport("libc", EntryPoint = "open", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);

    [LibraryImport("libc", EntryPoint = "fsync", SetLastError = true)]
    private static partial int Fsync(int descriptor);

    [LibraryImport("libc", EntryPoint = "close")]
    private static partial int Close(int descriptor);
}
