using System.Globalization;
using System.Text.Json;
using Pipeline.Evaluate.Report.Browser;
using Pipeline.Evaluate.Scaling;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Tokens;

namespace Pipeline.Evaluate.Report;

// run.json ──────────────────────────────────────┐
// harvest/manifest.json ─────────────────────────┤
// train/<hook>/<sae>/{cfg.json, metrics.jsonl} ──┼──> ReportModel
// evaluate/<hook>/<sae>/metrics.json ────────────┤
// evaluate/<hook>/<sae>/features/ (optional) ────┤
// scaling/<hook>/scaling.json (where run) ───────┘

/// <summary>Reads a run folder into a <see cref="ReportModel"/>; every fault names its file and field.</summary>
internal sealed class RunFolderReader(string runFolder)
{
    /// <summary>Latents of each SAE that the page shows itself.</summary>
    private const int Highlights = 3;

    /// <param name="onFeatures">
    /// Given each SAE with latents described while its files are open, which are large: those of all SAEs never are at once.
    /// </param>
    public ReportModel Read(Action<RunSummary, SaeResult, FeatureFiles>? onFeatures = null)
    {
        RunSummary run = ReadRun();
        var saes = ReadSaes((sae, features) => onFeatures?.Invoke(run, sae, features));
        return new(run, saes) { Scaling = ReadScaling(run) };
    }

    /// <summary>run.json and the harvest's totals.</summary>
    public static RunSummary ReadRun(string runFolder) => new RunFolderReader(runFolder).ReadRun();

    private RunSummary ReadRun()
    {
        JsonNodeReader run = Open("run.json", "Run the pipeline into this folder again with `sae run`");
        JsonNodeReader model = run.Required("model");
        JsonNodeReader harvest = Open("harvest/manifest.json", RerunStage("harvest")).Required("results");
        return new RunSummary
        {
            Name = run.Required("name").AsString(),
            Seed = run.Required("seed").AsText(),
            ModelId = model.Required("id").AsString(),
            ModelPath = model.Optional("path")?.AsString(),
            ModelHash = model.Optional("hash")?.AsString(),
            Text = run.Required("text").AsText(),
            HasBos = run.Optional("pipeline")?.Optional("harvest")?.Optional("bos") is { } bos
                ? bos.AsString() != Spelling.Of(BosPolicy.None)
                : null,
            TokensHarvested = harvest.Required("tokens").AsInt64(),
            DocumentsHarvested = harvest.Required("documents").AsInt64(),
            Started = run.Required("started").AsString(),
            Finished = run.Optional("finished")?.AsString(),
            Stages = [.. run.Required("stages").AsArray().Select(ReadStage)],
            Versions = run.Required("versions").AsTextEntries(),
            Machine = run.Required("machine").AsTextEntries(),
            PipelineJson = run.Optional("pipeline") is { } pipeline
                ? JsonSerializer.Serialize(pipeline.Element, RelaxedJson.Indented)
                : null,
        };
    }

    private static StageTiming ReadStage(JsonNodeReader stage) =>
        new(
            stage.Required("name").AsString(),
            stage.OptionalDouble("seconds"),
            stage.Optional("status")?.AsString() ?? ""
        );

    private IReadOnlyList<SaeResult> ReadSaes(Action<SaeResult, FeatureFiles> onFeatures)
    {
        List<string> folders = [.. SaeFolders("train").Union(SaeFolders("evaluate"))];
        if (folders.Count == 0)
        {
            throw Missing("train", "no <hook>/<sae> folder", "a folder per trained autoencoder", RerunStage("train"));
        }
        return
        [
            .. folders
                .Select(folder => ReadSae(folder, onFeatures))
                .OrderBy(s => s.Layer ?? int.MaxValue)
                .ThenBy(s => s.Hook, StringComparer.Ordinal)
                .ThenBy(s => s.Architecture, StringComparer.Ordinal)
                .ThenBy(s => s.Features)
                .ThenBy(s => s.K)
                .ThenBy(s => s.Sae, StringComparer.Ordinal),
        ];
    }

    /// <summary>The <c>hook/sae</c> paths under a stage. Both stages are asked, so that neither half can be missing unseen.</summary>
    private IEnumerable<string> SaeFolders(string stage)
    {
        string root = Path.Combine(runFolder, stage);
        return Directory.Exists(root)
            ? Directory
                .EnumerateDirectories(root)
                .SelectMany(Directory.EnumerateDirectories)
                .Where(folder => !new DirectoryInfo(folder).Name.StartsWith('.'))
                .Select(folder => Path.GetRelativePath(root, folder).Replace('\\', '/'))
            : [];
    }

    private SaeResult ReadSae(string hookAndSae, Action<SaeResult, FeatureFiles> onFeatures)
    {
        string trainRemedy =
            $"{RerunStage("train")}, or remove {hookAndSae} from both stages if it is no longer wanted";
        string evaluateRemedy = $"{RerunStage("evaluate")}, or remove train/{hookAndSae} if it is no longer wanted";
        JsonNodeReader config = Open($"train/{hookAndSae}/cfg.json", trainRemedy);
        string[] parts = hookAndSae.Split('/');
        string hook = config.Optional("metadata")?.Optional("hook_name")?.AsString() ?? parts[0];
        JsonNodeReader metrics = Open($"evaluate/{hookAndSae}/metrics.json", evaluateRemedy);
        var features = FeatureFiles.TryOpen(runFolder, hookAndSae, evaluateRemedy);
        var sae = new SaeResult
        {
            Hook = hook,
            HookAndSae = hookAndSae,
            Layer = LayerOf(hook),
            Sae = parts[1],
            Architecture = config.Required("architecture").AsString(),
            Features = config.Required("d_sae").AsInt32(),
            K = config.Optional("k")?.AsInt32(),
            Metrics = ReadMetrics(metrics),
            Details = MetricDetails.Read(metrics),
            Curve = ReadCurve($"train/{hookAndSae}/metrics.jsonl", trainRemedy),
            Latents = features is null ? null : ReadLatents(features),
        };
        if (features is not null)
        {
            onFeatures(sae, features);
        }
        return sae;
    }

    /// <summary><c>blocks.7.hook_resid_post</c> lies in layer 7.</summary>
    private static int? LayerOf(string hook) =>
        hook.Split('.') is ["blocks", var layer, ..]
        && int.TryParse(layer, NumberStyles.None, CultureInfo.InvariantCulture, out int value)
            ? value
            : null;

    private static SaeMetrics ReadMetrics(JsonNodeReader metrics) =>
        new()
        {
            Tokens = metrics.Required("tokens").AsInt64(),
            L0 = metrics.RequiredOrUndefined("l0"),
            L1 = metrics.RequiredOrUndefined("l1"),
            Fvu = metrics.RequiredOrUndefined("fvu"),
            ExplainedVariance = metrics.RequiredOrUndefined("explained_variance"),
            NmseToZero = metrics.RequiredOrUndefined("nmse_to_zero"),
            Mse = metrics.RequiredOrUndefined("mse"),
            Cosine = metrics.RequiredOrUndefined("cosine"),
            L2Ratio = metrics.RequiredOrUndefined("l2_ratio"),
            RelativeBias = metrics.RequiredOrUndefined("relative_bias"),
            CeClean = metrics.RequiredOrUndefined("ce_clean"),
            CeSpliced = metrics.RequiredOrUndefined("ce_spliced"),
            CeZero = metrics.RequiredOrUndefined("ce_zero"),
            CeMean = metrics.RequiredOrUndefined("ce_mean"),
            LossRecovered = metrics.RequiredOrUndefined("loss_recovered"),
            LossRecoveredMean = metrics.RequiredOrUndefined("loss_recovered_mean"),
            CeDelta = metrics.RequiredOrUndefined("ce_delta"),
            Kl = metrics.RequiredOrUndefined("kl"),
            DeadFraction = metrics.RequiredOrUndefined("dead_fraction"),
            Density = ReadHistogram(metrics.Required("density_histogram")),
            Definitions = new Dictionary<string, string>(
                metrics.Optional("definitions")?.AsTextEntries().DistinctBy(e => e.Key) ?? []
            ),
        };

    private static DensityHistogram ReadHistogram(JsonNodeReader histogram)
    {
        double[] edges = [.. histogram.Required("edges").AsArray().Select(e => e.AsDouble())];
        double[] counts = [.. histogram.Required("counts").AsArray().Select(c => c.AsDouble())];
        if (edges.Length != counts.Length + 1)
        {
            throw histogram.Corrupt($"{edges.Length} edges around {counts.Length} counts", "one edge more than counts");
        }
        for (int i = 1; i < edges.Length; i++)
        {
            // Negated, so that an undefined edge fails too.
            if (!(edges[i] > edges[i - 1]))
            {
                throw histogram.Corrupt($"edge {i} not above the one before it", "ascending edges");
            }
        }
        if (counts.Any(c => !(c >= 0)))
        {
            throw histogram.Corrupt("a negative or undefined count", "counts of zero or more");
        }
        return new DensityHistogram(edges, counts);
    }

    private List<TrainingPoint> ReadCurve(string file, string remedy)
    {
        List<TrainingPoint> curve = [];
        int number = 0;
        foreach (string line in File.ReadLines(JsonNodeReader.Require(runFolder, file, remedy)))
        {
            number++;
            if (!string.IsNullOrWhiteSpace(line))
            {
                string where = string.Create(CultureInfo.InvariantCulture, $"{file}, line {number}");
                curve.Add(ReadPoint(JsonNodeReader.Parse(where, remedy, line)));
            }
        }
        return curve;
    }

    private static TrainingPoint ReadPoint(JsonNodeReader line) =>
        new()
        {
            Tokens = line.Required("tokens").AsInt64(),
            Loss = line.OptionalDouble("loss"),
            Fvu = line.OptionalDouble("fvu"),
        };

    private static LatentsSummary ReadLatents(FeatureFiles files)
    {
        var columns = files.Columns;
        return new LatentsSummary
        {
            Latents = columns.Latents,
            Described = columns.Described,
            Dead = columns.IsDead.Count(dead => dead),
            Dense = columns.IsDense.Count(dense => dense),
            N2G = files.Index.Optional("n2g") is { } mean
                ? new N2GMean(
                    mean.Required("latents").AsInt32(),
                    mean.RequiredOrUndefined("precision"),
                    mean.RequiredOrUndefined("recall"),
                    mean.RequiredOrUndefined("f1")
                )
                : null,
            Highlights =
            [
                .. Enumerable
                    .Range(0, columns.Latents)
                    .Where(i => columns.Block[i] >= 0 && !columns.IsDead[i] && !columns.IsDense[i])
                    .OrderByDescending(i => columns.N2GF1[i] ?? double.NegativeInfinity)
                    .ThenByDescending(i => columns.MaxActivation[i])
                    .Take(Highlights)
                    .Select(i => new LatentHighlight(
                        i,
                        columns.Density[i],
                        columns.MaxActivation[i],
                        columns.N2GF1[i],
                        files
                            .Latent(i)!
                            .Value.Required("top")
                            .AsArray()
                            .Select(FeatureFiles.ReadExample)
                            .FirstOrDefault()
                    )),
            ],
        };
    }

    /// <summary>Those the run lists: a folder of an earlier pipeline may lie there too.</summary>
    private IReadOnlyList<ScalingResult> ReadScaling(RunSummary run) =>
        [
            .. run
                .Stages.Where(stage => stage.Name.StartsWith("scaling/", StringComparison.Ordinal))
                .Select(stage => ReadLaw(Open($"{stage.Name}/{ScalingStage.LawName}", RerunStage("scaling")))),
        ];

    private static ScalingResult ReadLaw(JsonNodeReader law)
    {
        JsonNodeReader heldOut = law.Required("held_out");
        JsonNodeReader published = law.Required("published");
        JsonNodeReader[] coefficients =
        [
            .. ScalingLaw.Names.Select(name => law.Required("coefficients").Required(name)),
        ];
        return new ScalingResult(
            law.Required("hook").AsString(),
            law.Required("architecture").AsString(),
            ReadPoints(law),
            new ScalingFit(
                ScalingLaw.Of([.. coefficients.Select(c => c.Required("value").AsDouble())]),
                [.. coefficients.Select(c => (c.Required("low").AsDouble(), c.Required("high").AsDouble()))],
                law.Required("fit_error").AsDouble(),
                ScalingLaw.Of([
                    .. ScalingLaw.Names.Select(name => heldOut.Required("coefficients").Required(name).AsDouble()),
                ]),
                ReadPoints(heldOut),
                heldOut.Required("error").AsDouble()
            ),
            ScalingLaw.Published(published.Required("alpha").AsDouble()),
            law.Required("definitions").AsTextEntries()
        );
    }

    private static ScalingPoint[] ReadPoints(JsonNodeReader parent) =>
        [
            .. parent
                .Required("points")
                .AsArray()
                .Select(point => new ScalingPoint(
                    point.Required("n").AsDouble(),
                    point.Required("k").AsDouble(),
                    point.Required("fvu").AsDouble()
                )),
        ];

    private JsonNodeReader Open(string file, string remedy) => JsonNodeReader.Open(runFolder, file, remedy);

    private static CorruptArtifactException Missing(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());

    private static string RerunStage(string stage) => $"Re-run the {stage} stage with `sae run --only {stage}`";
}
