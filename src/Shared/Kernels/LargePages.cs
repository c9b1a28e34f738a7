using System.Runtime.InteropServices;

namespace Pipeline.Shared.Kernels;

/// <summary>Linux's transparent huge pages, which by default are given only to who asks.</summary>
internal static unsafe partial class LargePages
{
    /// <summary>Of one.</summary>
    public const nuint Bytes = 2 << 20;

    private const int MADV_HUGEPAGE = 14;

    /// <summary>Asks; memory is the same without, if slower, so that a refusal is no error.</summary>
    /// <param name="start">At a multiple of <see cref="Bytes"/>, not touched yet.</param>
    /// <param name="length">In bytes.</param>
    public static void AskFor(void* start, nuint length)
    {
        if (OperatingSystem.IsLinux())
        {
            _ = MAdvise(start, length, MADV_HUGEPAGE);
        }
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int MAdvise(void* start, nuint length, int advice);
}
