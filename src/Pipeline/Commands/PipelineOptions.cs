using System.CommandLine;
using System.Globalization;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Hub;

namespace Pipeline.Commands;

/// <summary>The options of verbs that take a pipeline file.</summary>
internal sealed class PipelineOptions
{
    private readonly Argument<string> file = new("pipeline") { Description = "A pipeline file (YAML)." };
    private readonly Option<string?> outFolder = new("--out") { Description = "The run's folder (default runs/NAME)." };
    private readonly Option<string[]> settings = new("--set")
    {
        Description = "A setting in place of the file's: path.to.key=value. May be given several times.",
    };
    private readonly Option<string> device = new("--device")
    {
        Description = "cpu, cuda or cuda:INDEX.",
        DefaultValueFactory = _ => "cpu",
    };
    private readonly Option<int?> threads = new("--threads")
    {
        Description = "CPU threads (default: libtorch's choice).",
    };

    private readonly Option<bool> allowDrift = new("--allow-drift")
    {
        Description = "Continue work begun with other threads, device, libtorch or CPU; its manifest records it.",
    };

    public void AddTo(Command command)
    {
        command.Arguments.Add(file);
        command.Options.Add(outFolder);
        command.Options.Add(settings);
        command.Options.Add(device);
        command.Options.Add(threads);
        command.Options.Add(allowDrift);
    }

    /// <summary>Loads the file, which also tells the run's folder; nothing it names is opened.</summary>
    public (PipelineConfig Config, string Folder) Load(ParseResult parsed)
    {
        var config = YamlConfiguration.Load<PipelineConfig>(parsed.GetValue(file)!, parsed.GetValue(settings) ?? []);
        return (config, parsed.GetValue(outFolder) ?? Path.Combine("runs", config.Name));
    }

    /// <summary>Opens and checks what the file names.</summary>
    /// <param name="parsed">The command line.</param>
    /// <param name="config">As loaded.</param>
    /// <param name="folder">The run's folder.</param>
    /// <param name="threadsOtherwise">CPU threads where neither command line nor file says; null leaves it to libtorch.</param>
    /// <param name="cancel">Stops fetching from the hub.</param>
    public RunInputs Open(
        ParseResult parsed,
        PipelineConfig config,
        string folder,
        CancellationToken cancel,
        int? threadsOtherwise = null
    )
    {
        CommandRunner.UseThreads(parsed.GetValue(threads) ?? config.Threads ?? threadsOtherwise);
        RunInputs Open(IProgressSink? progress) =>
            RunInputs.Open(
                config,
                parsed.GetValue(file)!,
                folder,
                CommandRunner.OpenDevice(parsed.GetValue(device)!),
                parsed.GetValue(allowDrift),
                progress,
                cancel
            );
        if (!HubFolder.IsHubUrl(config.Model) && !HubFolder.IsHubUrl(config.Text))
        {
            return Open(null);
        }
        RunInputs? run = null;
        ConsoleProgress.Run(progress => run = Open(progress));
        return run!;
    }

    /// <summary>The same options for a worker: resolved folder and threads, so that all workers agree.</summary>
    public IEnumerable<string> Repeat(ParseResult parsed, RunInputs run)
    {
        return
        [
            Path.GetFullPath(parsed.GetValue(file)!),
            .. (parsed.GetValue(settings) ?? []).SelectMany(setting => new[] { "--set", setting }),
            "--out",
            Path.GetFullPath(run.Folder),
            "--device",
            parsed.GetValue(device)!,
            "--threads",
            run.Environment.Threads.ToString(CultureInfo.InvariantCulture),
            .. run.AllowDrift ? ["--allow-drift"] : Array.Empty<string>(),
        ];
    }
}
