using System.Globalization;

namespace Pipeline.Shared.Artifacts;

/// <summary>Recognises a full disk among I/O errors and words it.</summary>
internal static class DiskFull
{
    // .NET passes errno through as HResult on Unix: EFBIG, ENOSPC, EDQUOT; then ERROR_HANDLE_DISK_FULL, ERROR_DISK_FULL.
    private static readonly int[] Codes = [27, 28, 122, unchecked((int)0x80070027), unchecked((int)0x80070070)];

    public static bool Is(IOException e) => Array.IndexOf(Codes, e.HResult) >= 0;

    /// <param name="path">The file's final path.</param>
    /// <param name="needed">Bytes the file has reached.</param>
    /// <param name="e">The operating system's error.</param>
    public static StageFailedException While(string path, long needed, IOException e) =>
        new(
            new Fault(
                path,
                string.Create(CultureInfo.InvariantCulture, $"no space left on the disk ({Free(path)} bytes free)"),
                string.Create(CultureInfo.InvariantCulture, $"room for {needed} bytes or more"),
                "Free space or choose another folder with --out, then run again: finished files are kept"
            ).ToString(),
            e
        );

    private static long Free(string path)
    {
        try
        {
            return new DriveInfo(Path.GetDirectoryName(path)!).AvailableFreeSpace;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            return 0;
        }
    }
}
