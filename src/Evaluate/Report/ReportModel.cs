using Pipeline.Evaluate.Scaling;

namespace Pipeline.Evaluate.Report;

/// <summary>All the report page shows of one run; read from the run folder's artifacts, drawn by <see cref="ReportPage"/>.</summary>
/// <param name="Run">What was run, where, with which versions, and how long each stage took.</param>
/// <param name="Saes">One entry per trained autoencoder, ordered by layer, then hook, then name.</param>
public sealed record ReportModel(RunSummary Run, IReadOnlyList<SaeResult> Saes)
{
    /// <summary>The scaling law of each hook; empty where the run has no such stage.</summary>
    public IReadOnlyList<ScalingResult> Scaling { get; init; } = [];

    /// <summary>Reads the artifacts of a run folder; the picture of what is read opens <see cref="RunFolderReader"/>.</summary>
    /// <exception cref="Pipeline.Shared.CorruptArtifactException">A file is missing, or does not hold what it should.</exception>
    public static ReportModel Read(string runFolder) => new RunFolderReader(runFolder).Read();
}

/// <summary>Provenance and cost of a run, from <c>run.json</c> and <c>harvest/manifest.json</c>.</summary>
public sealed record RunSummary
{
    public required string Name { get; init; }
    public required string Seed { get; init; }

    /// <summary>Model id, such as <c>openai-community/gpt2</c>.</summary>
    public required string ModelId { get; init; }

    /// <summary>Where the model was read from; null where run.json does not say.</summary>
    public string? ModelPath { get; init; }

    /// <summary>SHA-256 over the model's files; null where run.json does not say.</summary>
    public string? ModelHash { get; init; }

    public required string Text { get; init; }

    /// <summary>Whether BOS tokens were put into the text; null where that was left to the tokenizer.</summary>
    public bool? HasBos { get; init; }

    public required long TokensHarvested { get; init; }
    public required long DocumentsHarvested { get; init; }

    /// <summary>UTC, as the run wrote it.</summary>
    public required string Started { get; init; }

    /// <summary>UTC, as the run wrote it; null while the run is still going (the report is one of its stages).</summary>
    public string? Finished { get; init; }

    public IReadOnlyList<StageTiming> Stages { get; init; } = [];
    public IReadOnlyList<KeyValuePair<string, string>> Versions { get; init; } = [];
    public IReadOnlyList<KeyValuePair<string, string>> Machine { get; init; } = [];

    /// <summary>The resolved pipeline, as indented JSON.</summary>
    public string? PipelineJson { get; init; }
}

/// <summary>Wall time of a stage in seconds; null while it has not ended.</summary>
public sealed record StageTiming(string Name, double? Seconds, string Status);

/// <summary>One autoencoder: what it is, how it trained and how it scored.</summary>
public sealed record SaeResult
{
    public required string Hook { get; init; }

    /// <summary>The block the hook lies in; null for hooks outside the blocks (embeddings, final norm).</summary>
    public int? Layer { get; init; }

    /// <summary>Folder name, such as <c>topk-1024-k32</c>.</summary>
    public required string Sae { get; init; }

    public required string Architecture { get; init; }

    /// <summary>Dictionary size F.</summary>
    public required int Features { get; init; }

    /// <summary>Active latents per token; null for architectures whose L0 is not fixed.</summary>
    public int? K { get; init; }

    public required SaeMetrics Metrics { get; init; }

    /// <summary>Intervals, baselines, breakdowns: what the evaluation says of them.</summary>
    public MetricDetails Details { get; init; } = new();

    public IReadOnlyList<TrainingPoint> Curve { get; init; } = [];

    /// <summary>Its latents; null where they were not described.</summary>
    public LatentsSummary? Latents { get; init; }

    /// <summary><c>hook/sae</c>: where its folders lie under each stage.</summary>
    public required string HookAndSae { get; init; }
}

/// <summary>
/// The numbers of <c>evaluate/&lt;hook&gt;/&lt;sae&gt;/metrics.json</c>, under its key names. Null means undefined
/// (a ratio over zero), which the file writes as <c>null</c> or <c>"NaN"</c>. Definitions: <see cref="MetricCatalog"/>.
/// </summary>
public sealed record SaeMetrics
{
    /// <summary>Tokens scored.</summary>
    public required long Tokens { get; init; }
    public double? L0 { get; init; }
    public double? L1 { get; init; }
    public double? Fvu { get; init; }
    public double? ExplainedVariance { get; init; }
    public double? NmseToZero { get; init; }
    public double? Mse { get; init; }
    public double? Cosine { get; init; }
    public double? L2Ratio { get; init; }
    public double? RelativeBias { get; init; }
    public double? CeClean { get; init; }
    public double? CeSpliced { get; init; }
    public double? CeZero { get; init; }
    public double? CeMean { get; init; }
    public double? LossRecovered { get; init; }
    public double? LossRecoveredMean { get; init; }
    public double? CeDelta { get; init; }
    public double? Kl { get; init; }
    public double? DeadFraction { get; init; }
    public required DensityHistogram Density { get; init; }

    /// <summary>Definitions the file itself states, by metric key; they win over the built-in ones.</summary>
    public IReadOnlyDictionary<string, string> Definitions { get; init; } = new Dictionary<string, string>();
}

/// <summary>How many latents fire how often: bin i counts those with log10 frequency in [Edges[i], Edges[i + 1]).</summary>
/// <param name="Edges">Ascending log10 frequencies, one more than counts.</param>
/// <param name="Counts">Latents per bin; latents that never fired are in none.</param>
public sealed record DensityHistogram(double[] Edges, double[] Counts);

/// <summary>What the page shows of a line of <c>train/&lt;hook&gt;/&lt;sae&gt;/metrics.jsonl</c>; null where the line lacks the key.</summary>
public sealed record TrainingPoint
{
    public required long Tokens { get; init; }
    public double? Loss { get; init; }
    public double? Fvu { get; init; }
}

/// <summary><c>scaling/&lt;hook&gt;/scaling.json</c>.</summary>
/// <param name="Hook">Where the autoencoders were trained.</param>
/// <param name="Architecture">All of them have it.</param>
/// <param name="Points">n, k and FVU of each.</param>
/// <param name="Fit">The law.</param>
/// <param name="Published">Slopes as published, the constant through the points.</param>
/// <param name="Definitions">What the file says its words mean.</param>
public sealed record ScalingResult(
    string Hook,
    string Architecture,
    IReadOnlyList<ScalingPoint> Points,
    ScalingFit Fit,
    ScalingLaw Published,
    IReadOnlyList<KeyValuePair<string, string>> Definitions
);

/// <summary>What the page itself says of an SAE's latents; its browser has the rest.</summary>
public sealed record LatentsSummary
{
    public required int Latents { get; init; }

    /// <summary>Latents with examples.</summary>
    public required int Described { get; init; }

    /// <summary>Latents that fired on no token.</summary>
    public required int Dead { get; init; }

    /// <summary>Latents that fire on so many tokens that they hardly stand for one thing.</summary>
    public required int Dense { get; init; }

    /// <summary>Null where no patterns were made.</summary>
    public N2GMean? N2G { get; init; }

    /// <summary>Described latents worth opening first: those that patterns foretell best.</summary>
    public IReadOnlyList<LatentHighlight> Highlights { get; init; } = [];
}

/// <summary>Means over the latents that patterns were made of; null where none has the figure.</summary>
/// <param name="Latents">How many.</param>
/// <param name="Precision">Of tokens foretold, those it fired on.</param>
/// <param name="Recall">Of tokens it fired on, those foretold.</param>
/// <param name="F1">Their harmonic mean, latent by latent.</param>
public sealed record N2GMean(int Latents, double? Precision, double? Recall, double? F1);

/// <param name="Index">Row of the decoder.</param>
/// <param name="Density">Share of tokens the latent fires on, 0 to 1.</param>
/// <param name="MaxActivation">Largest activation seen.</param>
/// <param name="N2GF1">How well its patterns foretell where it fires; null where none were made.</param>
/// <param name="Example">The text it fires on most; null where none was kept.</param>
public sealed record LatentHighlight(
    int Index,
    double Density,
    double MaxActivation,
    double? N2GF1,
    FeatureExample? Example
);

/// <param name="Tokens">Decoded text of each token.</param>
/// <param name="Activations">The feature's activation at each token.</param>
/// <param name="Peak">Index of the token the example was picked for.</param>
public sealed record FeatureExample(IReadOnlyList<string> Tokens, IReadOnlyList<float> Activations, int Peak);
