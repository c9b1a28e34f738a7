using System.Diagnostics;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;

namespace Pipeline.Evaluate.Scaling;

/// <summary>
/// <code>
/// metrics.json of every autoencoder of a grid ──> (n, k, FVU) ──fit──> scaling.json
/// </code>
/// Of seconds, so it keeps no checkpoint: interrupted, it begins anew.
/// </summary>
public static class ScalingStage
{
    public const string LawName = "scaling.json";

    /// <summary>The stage's folder for one grid, compared with what it would be made from now.</summary>
    /// <param name="run">The run; it has a scaling section.</param>
    /// <param name="grid">Of one hook.</param>
    /// <param name="evaluations">Of the grid's autoencoders.</param>
    public static StageFolder Folder(RunInputs run, ScalingGrid grid, IEnumerable<StageFolder> evaluations)
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(grid);
        var config = ConfigurationJson.ToJson(run.Config.Scaling!);
        config["seed"] = run.Config.Seed;
        return new StageFolder(
            run.ScalingFolder(grid.Hook),
            "scaling",
            config,
            [
                .. evaluations.Select(folder =>
                {
                    string name = Path.GetRelativePath(run.Folder, folder.Path).Replace('\\', '/');
                    return new ManifestInput(name, name, folder.Fingerprint);
                }),
            ]
        );
    }

    /// <exception cref="RunInterruptedException">Cancelled; nothing is kept.</exception>
    /// <exception cref="ConfigurationException">An error of 0, or one that is no number.</exception>
    /// <exception cref="CorruptArtifactException">An evaluation is not as it was written.</exception>
    public static void Run(
        RunInputs run,
        ScalingGrid grid,
        StageFolder folder,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        ArgumentNullException.ThrowIfNull(run);
        ArgumentNullException.ThrowIfNull(grid);
        ArgumentNullException.ThrowIfNull(folder);
        ArgumentNullException.ThrowIfNull(progress);
        var clock = Stopwatch.StartNew();
        int resamples = run.Config.Scaling!.Resamples;
        string task = $"scaling {grid.Hook}";
        folder.Begin();
        List<ScalingMeasurement> measured = [.. grid.Saes.Select(sae => Read(run, grid.Hook, sae))];
        var fit = ScalingFitter.Fit(
            [.. measured.Select(m => m.Point)],
            run.Config.Seed,
            resamples,
            done =>
            {
                progress.Update(task, done, resamples, "fits");
                if (cancel.IsCancellationRequested)
                {
                    throw new RunInterruptedException($"{task}: interrupted. Run the command again to fit it.");
                }
            }
        );
        var json = ScalingJson.Of(grid, measured, fit, resamples);
        var digest = AtomicFile.WriteText(
            Path.Combine(folder.Path, LawName),
            json.ToJsonString(RelaxedJson.Indented) + "\n"
        );
        folder.Complete(
            [ManifestOutput.Of(LawName, digest)],
            new JsonObject { ["fit_error"] = fit.FitError, ["held_out_error"] = fit.HeldOutError },
            run.Provenance(clock.Elapsed)
        );
    }

    private static ScalingMeasurement Read(RunInputs run, HookPoint hook, SaeConfig sae)
    {
        string folder = run.EvaluationFolder(hook, sae);
        Manifest.RequireWhole(folder);
        var metrics = JsonNode.Parse(File.ReadAllText(Path.Combine(folder, EvaluateStage.MetricsName)))!;
        double Metric(string key) =>
            metrics[key] is JsonValue value && value.TryGetValue(out double number) ? number : double.NaN;
        return new ScalingMeasurement(
            Path.GetFileName(folder),
            new ScalingPoint(sae.FeaturesFor(run.Model.Config.Width), sae.K!.Value, Metric("fvu")),
            Metric("nmse_to_zero"),
            Metric("l0")
        );
    }
}

/// <summary>One autoencoder of a grid.</summary>
/// <param name="Sae">Its folder's name.</param>
/// <param name="Point">n, k and FVU.</param>
/// <param name="NmseToZero">Its error against zero in place of the mean.</param>
/// <param name="L0">Latents that fired, which a batchtopk of k may miss.</param>
internal sealed record ScalingMeasurement(string Sae, ScalingPoint Point, double NmseToZero, double L0);
