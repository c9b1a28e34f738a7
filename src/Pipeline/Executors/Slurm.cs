using System.ComponentModel;
using System.Diagnostics;
using Pipeline.Shared;

namespace Pipeline.Executors;

/// <summary>The cluster's commands: sbatch, squeue, scancel.</summary>
internal static class Slurm
{
    /// <summary>Submits a job and returns its number.</summary>
    /// <exception cref="StageFailedException">sbatch is not there or refuses.</exception>
    public static string Submit(IEnumerable<string> arguments, string script) =>
        Run("sbatch", ["--parsable", .. arguments, script]).Split(';')[0].Trim();

    /// <summary>Whether any part of a job waits or runs; null when the controller does not answer.</summary>
    public static bool? IsQueued(string job)
    {
        var (code, output, error) = TryRun("squeue", ["--noheader", "--jobs", job, "--format", "%i"]);
        return code == 0 ? output.Trim().Length > 0
            : error.Contains("Invalid job id", StringComparison.OrdinalIgnoreCase) ? false
            : null;
    }

    /// <summary>Ends a job; one that is over already is no error.</summary>
    public static void Cancel(string job) => TryRun("scancel", [job]);

    private static string Run(string command, IReadOnlyList<string> arguments)
    {
        var (code, output, error) = TryRun(command, arguments);
        return code == 0
            ? output
            : throw new StageFailedException(
                new Fault(
                    $"{command} {string.Join(' ', arguments)}",
                    $"exit {code}: {error.Trim()}",
                    "a job that Slurm takes",
                    "Correct the pipeline's slurm section, or use --executor local"
                ).ToString()
            );
    }

    private static (int Code, string Output, string Error) TryRun(string command, IReadOnlyList<string> arguments)
    {
        var start = new ProcessStartInfo(command) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        try
        {
            using var process = Process.Start(start)!;
            var output = process.StandardOutput.ReadToEndAsync();
            var error = process.StandardError.ReadToEndAsync();
            process.WaitForExit();
            return (process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
        }
        catch (Win32Exception e)
        {
            throw new ConfigurationException(
                new Fault(
                    "--executor slurm",
                    $"no command {command} ({e.Message})",
                    "a machine that submits to a Slurm cluster",
                    "Run there, or use --executor local"
                ).ToString(),
                e
            );
        }
    }
}
