using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pipeline.Tests.Pipelines;

/// <summary>The command as a user runs it: a process with arguments, exit code and two streams.</summary>
internal static class SaeProcess
{
    public sealed record Result(int ExitCode, string Output, string Error);

    public static Result Run(params string[] arguments) => Finish(Start(arguments));

    /// <summary>Waits for a process of <see cref="Start(string[])"/> and disposes it.</summary>
    public static Result Finish(Process started)
    {
        using var process = started;
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        process.WaitForExit();
        return new Result(process.ExitCode, output.GetAwaiter().GetResult(), error.GetAwaiter().GetResult());
    }

    public static Process Start(params string[] arguments) => Start(new Dictionary<string, string?>(), arguments);

    /// <summary>Starts the command with some variables set, or, where the value is null, unset.</summary>
    public static Process Start(IReadOnlyDictionary<string, string?> environment, params string[] arguments)
    {
        // A shell's background jobs ignore SIGINT, and so would all they start.
        var start = new ProcessStartInfo("env")
        {
            RedirectStandardOutput = true,
            RedirectStandardError = true,
            WorkingDirectory = TestData.RepositoryRoot,
        };
        start.ArgumentList.Add("--default-signal=INT");
        start.ArgumentList.Add(Path.Combine(RuntimeEnvironment.GetRuntimeDirectory(), "../../../dotnet"));
        start.ArgumentList.Add(Path.Combine(AppContext.BaseDirectory, "sae.dll"));
        foreach (string argument in arguments)
        {
            start.ArgumentList.Add(argument);
        }
        foreach (var (name, value) in environment)
        {
            start.Environment[name] = value;
        }
        return Process.Start(start)!;
    }
}
