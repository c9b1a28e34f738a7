using System.Globalization;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// One run a folder. The lock is the operating system's on an open file, so a killed holder leaves none behind; a note
/// beside it says who holds it.
/// </summary>
public sealed class RunLock : IDisposable
{
    private readonly FileStream held;
    private readonly string note;

    private RunLock(FileStream held, string note) => (this.held, this.note) = (held, note);

    /// <exception cref="FolderLockedException">Another process holds the folder; the message names it.</exception>
    public static RunLock Acquire(string folder)
    {
        Directory.CreateDirectory(folder);
        string path = Path.Combine(folder, ".lock");
        string note = path + ".holder";
        FileStream held;
        try
        {
            held = new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException e)
        {
            string holder = File.Exists(note) ? File.ReadAllText(note).Trim() : "another process";
            throw new FolderLockedException(
                new Fault(
                    folder,
                    $"a run by {holder}",
                    "no other run on this folder",
                    "Wait for it or stop it first"
                ).ToString(),
                e
            );
        }
        AtomicFile.WriteText(
            note,
            string.Create(CultureInfo.InvariantCulture, $"PID {Environment.ProcessId} on {Environment.MachineName}\n")
        );
        return new RunLock(held, note);
    }

    public void Dispose()
    {
        File.Delete(note);
        held.Dispose();
    }
}
