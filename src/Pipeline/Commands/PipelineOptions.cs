using System.CommandLine;
using System.Globalization;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;

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

    public void AddTo(Command command)
    {
        command.Arguments.Add(file);
        command.Options.Add(outFolder);
        command.Options.Add(settings);
        command.Options.Add(device);
        command.Options.Add(threads);
    }

    /// <summary>Loads the file, and opens and checks what it names.</summary>
    public RunInputs Open(ParseResult parsed)
    {
        string path = parsed.GetValue(file)!;
        var config = YamlConfiguration.Load<PipelineConfig>(path, parsed.GetValue(settings) ?? []);
        CommandRunner.UseThreads(parsed.GetValue(threads) ?? config.Threads);
        string folder = parsed.GetValue(outFolder) ?? Path.Combine("runs", config.Name);
        return RunInputs.Open(config, path, folder, CommandRunner.OpenDevice(parsed.GetValue(device)!));
    }

    /// <summary>The same options for a worker: resolved folder and threads, so that all workers agree.</summary>
    public IEnumerable<string> Repeat(ParseResult parsed, RunInputs run)
    {
        int count = parsed.GetValue(threads) ?? run.Config.Threads ?? run.Config.Slurm.Cpus;
        return
        [
            Path.GetFullPath(parsed.GetValue(file)!),
            .. (parsed.GetValue(settings) ?? []).SelectMany(setting => new[] { "--set", setting }),
            "--out",
            Path.GetFullPath(run.Folder),
            "--device",
            parsed.GetValue(device)!,
            "--threads",
            count.ToString(CultureInfo.InvariantCulture),
        ];
    }
}
