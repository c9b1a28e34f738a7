using System.CommandLine;
using System.Runtime.InteropServices;
using Pipeline.Shared;
using TorchSharp;

namespace Pipeline.Commands;

/// <summary>What every verb shares: exit codes, one-paragraph errors, Ctrl-C and SIGTERM, device and threads.</summary>
internal static class CommandRunner
{
    public static Option<bool> Verbose { get; } =
        new("--verbose") { Description = "Show the stack trace of an error.", Recursive = true };

    /// <summary>Runs a verb; the first Ctrl-C or SIGTERM asks it to stop, a second one ends the process.</summary>
    /// <returns>The exit code: 0 done, 1 failed, 2 configuration, 3 corrupt, 4 locked, 5 interrupted.</returns>
    public static int Run(ParseResult parsed, Func<CancellationToken, int> action)
    {
        using var cancel = new CancellationTokenSource();
        void Stop(PosixSignalContext context)
        {
            context.Cancel = !cancel.IsCancellationRequested;
            cancel.Cancel();
        }
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Stop);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Stop);
        try
        {
            return action(cancel.Token);
        }
        catch (Exception e)
        {
            bool known = e is PipelineException;
            Console.Error.WriteLine(known ? e.Message : $"Unexpected {e.GetType().Name}: {e.Message}");
            if (parsed.GetValue(Verbose))
            {
                Console.Error.WriteLine(e);
            }
            else if (!known)
            {
                Console.Error.WriteLine("Run again with --verbose for the stack trace.");
            }
            return e is PipelineException { ExitCode: var code } ? code : 1;
        }
    }

    public static torch.Device OpenDevice(string name)
    {
        bool isCuda = name == "cuda" || name.StartsWith("cuda:", StringComparison.Ordinal);
        if (name != "cpu" && !isCuda)
        {
            throw Refuse($"'{name}'", "cpu, cuda or cuda:INDEX", "Choose one of these");
        }
        if (isCuda && !torch.cuda.is_available())
        {
            throw Refuse(
                $"'{name}', but no CUDA device can be used",
                "a device this build and machine have",
                "Build with -p:TorchBackend=cuda on a machine with an NVIDIA GPU, or use --device cpu"
            );
        }
        return torch.device(name);
    }

    public static void UseThreads(int? threads)
    {
        if (threads is { } wanted)
        {
            if (wanted < 1)
            {
                throw new ConfigurationException(
                    new Fault("--threads", $"{wanted}", "at least 1", "Choose a number of threads").ToString()
                );
            }
            torch.set_num_threads(wanted);
        }
    }

    private static ConfigurationException Refuse(string found, string expected, string remedy) =>
        new(new Fault("--device", found, expected, remedy).ToString());
}
