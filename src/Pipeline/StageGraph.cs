using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Evaluate.Report;
using Pipeline.Evaluate.Scaling;
using Pipeline.Executors;
using Pipeline.Harvest;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Train;

namespace Pipeline;

/// <summary>One SAE on its way through the stages.</summary>
internal sealed record SaeNode(HookPoint Hook, SaeConfig Config, StageFolder Train, StageFolder Evaluate);

/// <summary>The scaling law of one hook.</summary>
internal sealed record ScalingNode(ScalingGrid Grid, StageFolder Folder);

/// <summary>
/// The stages of one pipeline: <c>harvest -> train (each hook, each SAE) -> evaluate -> scaling (each hook, where asked for)
/// -> report</c>. A stage's identity holds its inputs' fingerprints, so what is stale, and why, is known before anything runs.
/// </summary>
internal sealed class StageGraph
{
    public static readonly IReadOnlyList<string> StageNames = ["harvest", "train", "evaluate", "scaling", "report"];

    private readonly DateTimeOffset started = TimeProvider.System.GetUtcNow();

    public StageGraph(RunInputs run)
    {
        Run = run;
        Harvest = HarvestStage.Folder(run);
        Saes =
        [
            .. run.Saes.Select(entry =>
            {
                var train = TrainStage.Folder(run, entry.Hook, entry.Sae, Harvest.Fingerprint);
                var evaluate = EvaluateStage.Folder(run, entry.Hook, entry.Sae, train.Fingerprint);
                return new SaeNode(entry.Hook, entry.Sae, train, evaluate);
            }),
        ];
        Scaling =
        [
            .. ScalingGrid
                .Of(run)
                .Select(grid => new ScalingNode(
                    grid,
                    ScalingStage.Folder(
                        run,
                        grid,
                        Saes.Where(sae => sae.Hook == grid.Hook && grid.Saes.Contains(sae.Config))
                            .Select(sae => sae.Evaluate)
                    )
                )),
        ];
        Report = ReportStage.Folder(
            run.Folder,
            [.. Saes.Select(sae => sae.Evaluate), .. Scaling.Select(node => node.Folder)]
        );
    }

    public RunInputs Run { get; }

    public StageFolder Harvest { get; }

    public IReadOnlyList<SaeNode> Saes { get; }

    /// <summary>Empty for a pipeline without a scaling section.</summary>
    public IReadOnlyList<ScalingNode> Scaling { get; }

    public StageFolder Report { get; }

    private string RunJsonPath => Path.Combine(Run.Folder, "run.json");

    /// <summary>Every stage with its name, in running order.</summary>
    public IEnumerable<(string Stage, StageFolder Folder)> All() =>
        [
            ("harvest", Harvest),
            .. Saes.Select(sae => ("train", sae.Train)),
            .. Saes.Select(sae => ("evaluate", sae.Evaluate)),
            .. Scaling.Select(node => ("scaling", node.Folder)),
            ("report", Report),
        ];

    /// <summary>Runs what is not up to date among the wanted stages; returns how many folders were made.</summary>
    public int Make(IReadOnlySet<string> wanted, IExecutor executor, IProgressSink progress, CancellationToken cancel)
    {
        RequireAskedFor(wanted);
        AtomicFile.RemoveTemporaries(Run.Folder);
        int made = 0;
        bool Needed(string stage, StageFolder folder)
        {
            if (folder.State == StageState.UpToDate)
            {
                folder.RemoveLeftovers();
                return false;
            }
            if (!wanted.Contains(stage))
            {
                return false;
            }
            RequireUpstream(stage, wanted);
            made++;
            return true;
        }
        if (Needed("harvest", Harvest))
        {
            executor.Harvest(this, progress, cancel);
        }
        var untrained = Saes.Where(sae => Needed("train", sae.Train)).ToList();
        if (untrained.Count > 0)
        {
            executor.Train(this, untrained, progress, cancel);
        }
        var unevaluated = Saes.Where(sae => Needed("evaluate", sae.Evaluate)).ToList();
        if (unevaluated.Count > 0)
        {
            executor.Evaluate(this, unevaluated, progress, cancel);
        }
        foreach (var node in Scaling.Where(node => Needed("scaling", node.Folder)).ToList())
        {
            ScalingStage.Run(Run, node.Grid, node.Folder, progress, cancel);
        }
        // A run killed just before this has made its stages, and this one makes none.
        if (made > 0 || Report.State != StageState.UpToDate || !File.Exists(RunJsonPath))
        {
            WriteRunJson();
        }
        if (Needed("report", Report))
        {
            ReportStage.Run(Run.Folder, Report);
        }
        return made;
    }

    /// <summary>A stage that runs alone needs what stands before it to be there.</summary>
    public void RequireUpstream(string stage, IReadOnlySet<string> wanted)
    {
        var missing = All()
            .TakeWhile(entry => entry.Stage != stage)
            .FirstOrDefault(entry => !wanted.Contains(entry.Stage) && entry.Folder.State != StageState.UpToDate);
        if (missing.Folder is not null)
        {
            throw new ConfigurationException(
                new Fault(
                    "--only",
                    $"{stage} without {missing.Stage}, which is not up to date ({missing.Folder.Path}: {missing.Folder.Reason})",
                    "every stage before it up to date or asked for",
                    $"Add {missing.Stage} to --only, or leave --only out"
                ).ToString()
            );
        }
    }

    /// <summary>A stage named alone exists.</summary>
    private void RequireAskedFor(IReadOnlySet<string> wanted)
    {
        if (wanted.Count < StageNames.Count && wanted.Contains("scaling") && Scaling.Count == 0)
        {
            throw new ConfigurationException(
                new Fault(
                    "--only",
                    "scaling",
                    "stages of this pipeline, which has no scaling section",
                    "Add scaling: {} to the pipeline, or leave it out of --only"
                ).ToString()
            );
        }
    }

    /// <summary>run.json: the resolved pipeline, where it ran, and how long each stage took.</summary>
    private void WriteRunJson()
    {
        var stages = new JsonArray();
        foreach (var (stage, folder) in All().Where(entry => entry.Stage != "report"))
        {
            if (Manifest.TryRead(folder.Path) is { } manifest)
            {
                stages.Add(
                    new JsonObject
                    {
                        ["name"] = Path.GetRelativePath(Run.Folder, folder.Path).Replace('\\', '/'),
                        ["stage"] = stage,
                        ["status"] = "complete",
                        ["fingerprint"] = manifest.Fingerprint,
                        ["seconds"] = manifest.Provenance["wall_seconds"]?.DeepClone(),
                        ["finished"] = manifest.Provenance["finished"]?.DeepClone(),
                    }
                );
            }
        }
        var provenance = Run.Provenance(TimeSpan.Zero);
        var json = new JsonObject
        {
            ["name"] = Run.Config.Name,
            ["seed"] = Run.Config.Seed,
            ["model"] = new JsonObject
            {
                ["id"] = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(Run.Config.Model))),
                ["path"] = Run.Config.Model,
                ["hash"] = Run.ModelInput.Fingerprint,
            },
            ["text"] = Run.Config.Text,
            ["text_hash"] = Run.TextInput.Fingerprint,
            ["hooks"] = new JsonArray([.. Run.Hooks.Select(hook => (JsonNode)hook.ToString())]),
            ["device"] = provenance["device"]!.DeepClone(),
            ["threads"] = provenance["threads"]!.DeepClone(),
            ["versions"] = provenance["versions"]!.DeepClone(),
            ["machine"] = provenance["machine"]!.DeepClone(),
            ["started"] = started.ToString("u", CultureInfo.InvariantCulture),
            ["finished"] = provenance["finished"]!.DeepClone(),
            ["stages"] = stages,
            ["pipeline"] = ConfigurationJson.ToJson(Run.Config),
        };
        AtomicFile.WriteText(RunJsonPath, json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n");
    }
}
