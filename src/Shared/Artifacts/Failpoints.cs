using System.Diagnostics;
using System.Globalization;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// The numbered moments at which a test may kill this process: after every step by which an artifact comes to be or goes.
/// <c>PIPELINE_FAILPOINT=N</c> sends SIGKILL to the process at the Nth it passes; <c>PIPELINE_FAILPOINT_LOG=FILE</c> lists
/// those passed. Without either, passing one costs a comparison.
/// </summary>
internal static class Failpoints
{
    private static readonly int? Deadly = int.TryParse(
        Environment.GetEnvironmentVariable("PIPELINE_FAILPOINT"),
        CultureInfo.InvariantCulture,
        out int number
    )
        ? number
        : null;
    private static readonly string? Log = Environment.GetEnvironmentVariable("PIPELINE_FAILPOINT_LOG");
    private static readonly Lock OneAtATime = new();
    private static int passed;

    /// <param name="step">What has just been done.</param>
    /// <param name="path">To which file or folder.</param>
    public static void Pass(string step, string path)
    {
        if (Deadly is null && Log is null)
        {
            return;
        }
        lock (OneAtATime)
        {
            passed++;
            if (Log is not null)
            {
#pragma warning disable RS0030 // A test's log, no artifact.
                File.AppendAllText(Log, $"{step} {Path.GetFileName(path)}\n");
#pragma warning restore RS0030
            }
            if (passed == Deadly)
            {
                Process.GetCurrentProcess().Kill();
                Thread.Sleep(Timeout.Infinite); // the signal is on its way
            }
        }
    }
}
