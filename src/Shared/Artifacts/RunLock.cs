using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// One run at a time in a folder. The lock is the operating system's, on the open file <c>.lock</c>: it goes when its
/// process goes, however that ends, and the file left behind means nothing. The file says who holds it.
/// </summary>
public sealed partial class RunLock : IDisposable
{
    public const string FileName = ".lock";

    private readonly FileStream file;

    private RunLock(FileStream file) => this.file = file;

    /// <summary>Takes the lock of <paramref name="runFolder"/>, creating the folder where it is missing.</summary>
    /// <exception cref="FolderLockedException">Another process, or this one already, holds the folder.</exception>
    public static RunLock Acquire(string runFolder)
    {
        FolderSync.Create(Path.GetFullPath(runFolder));
        string path = Path.Combine(runFolder, FileName);
        // FileShare.None is an exclusive flock on Unix; on Windows readers must be let in to learn the holder's name.
        var share = OperatingSystem.IsWindows() ? FileShare.Read : FileShare.None;
        FileStream file;
        try
        {
            file = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, share, bufferSize: 0);
        }
        catch (IOException e)
            when (e is not (FileNotFoundException or DirectoryNotFoundException or PathTooLongException))
        {
            throw new FolderLockedException(
                new Fault(
                    runFolder,
                    $"a folder held by {Holder(path)}",
                    "a folder no other run uses",
                    "Wait for that run or stop it, or choose another folder with --out"
                ).ToString(),
                e
            );
        }
        file.SetLength(0);
        file.Write(
            JsonSerializer.SerializeToUtf8Bytes(
                new Dictionary<string, object> { ["pid"] = Environment.ProcessId, ["host"] = Environment.MachineName }
            )
        );
        file.Flush();
        return new RunLock(file);
    }

    /// <summary>Releases the lock. The file stays: deleting it could take it from under a run that just opened it.</summary>
    public void Dispose() => file.Dispose();

    private static string Holder(string path)
    {
        // A holder that has the lock but has not yet written its name is given a moment to do so: under a second in all.
        const int Tries = 40;
        for (int i = 0; i < Tries; i++)
        {
            if (ReadHolder(path) is { } holder)
            {
                return holder;
            }
            Thread.Sleep(20);
        }
        return "another process";
    }

    private static string? ReadHolder(string path)
    {
        try
        {
            using var stream = OpenUnlocked(path);
            using var json = JsonDocument.Parse(stream);
            int pid = json.RootElement.GetProperty("pid").GetInt32();
            string? host = json.RootElement.GetProperty("host").GetString();
            return string.Create(CultureInfo.InvariantCulture, $"process {pid} on {host}");
        }
        catch (Exception e)
            when (e
                    is JsonException
                        or InvalidOperationException
                        or KeyNotFoundException
                        or FormatException
                        or IOException
                        or UnauthorizedAccessException
            )
        {
            return null;
        }
    }

    /// <summary>Opens for reading past the lock: every .NET open on Unix asks for at least a shared flock.</summary>
    private static FileStream OpenUnlocked(string path)
    {
        if (OperatingSystem.IsWindows())
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.ReadWrite);
        }
        int descriptor = Open(path, 0);
        return descriptor >= 0
            ? new FileStream(new SafeFileHandle(descriptor, ownsHandle: true), FileAccess.Read)
            : throw new IOException($"{path} cannot be read");
    }

    [LibraryImport("libc", EntryPoint = "open", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int Open(string path, int flags);
}
