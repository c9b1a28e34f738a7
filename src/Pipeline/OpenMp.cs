using System.Runtime.InteropServices;

namespace Pipeline;

/// <summary>
/// libtorch's OpenMP threads spin while they wait for each other. Where another process wants the same cores, each waits
/// for one that is not running, and work slows down many times over. Waiting passively costs next to nothing.
/// </summary>
internal static partial class OpenMp
{
    /// <summary>To be called before libtorch is loaded, which reads the variable; a value the user set stays.</summary>
    public static void WaitPassively()
    {
        if (OperatingSystem.IsLinux())
        {
            // Environment.SetEnvironmentVariable does not reach native code.
            _ = SetEnvironment("OMP_WAIT_POLICY", "PASSIVE", overwrite: 0);
        }
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetEnvironment(string name, string value, int overwrite);
}
