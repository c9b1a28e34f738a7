namespace Pipeline.Shared.Configuration;

/// <summary>A pipeline file: one model and one text, harvested, trained on, evaluated and reported.</summary>
public sealed record PipelineConfig
{
    /// <summary>Names the run and, unless <c>--out</c> is given, its folder <c>runs/NAME</c>.</summary>
    [FolderName]
    public required string Name { get; init; }

    /// <summary>The seed every stage derives its random streams from. Default 42.</summary>
    public ulong Seed { get; init; } = 42;

    /// <summary>A folder in Hugging Face layout, or <c>hf://ORG/NAME[@REVISION]</c>.</summary>
    public required string Model { get; init; }

    /// <summary>The text source: a file, a folder or <c>hf://datasets/...</c>. Required, here or by
    /// <c>--set</c>.</summary>
    [Remedy("Give it in the file or with --set text=PATH")]
    public required string Text { get; init; }

    /// <summary>Which activations are collected and how they are stored.</summary>
    public required HarvestConfig Harvest { get; init; }

    /// <summary>Which autoencoders are trained, and on how many tokens.</summary>
    public required TrainConfig Train { get; init; }

    /// <summary>How many held-out tokens the metrics are taken over. Default: <see cref="EvaluateConfig"/>'s
    /// defaults.</summary>
    public EvaluateConfig Evaluate { get; init; } = new();

    /// <summary>A law fitted to the errors of autoencoders of several sizes and sparsities. Default: null, none.</summary>
    public ScalingConfig? Scaling { get; init; }

    /// <summary>What the report shows. Default: <see cref="ReportConfig"/>'s defaults.</summary>
    public ReportConfig Report { get; init; } = new();

    /// <summary>What <c>--executor slurm</c> asks the cluster for. Default: <see cref="SlurmConfig"/>'s defaults.</summary>
    public SlurmConfig Slurm { get; init; } = new();

    /// <summary>CPU threads. Default: null, as many as the machine has cores.</summary>
    [AtLeast(1)]
    public int? Threads { get; init; }
}
