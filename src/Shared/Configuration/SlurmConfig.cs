namespace Pipeline.Shared.Configuration;

/// <summary>How <c>--executor slurm</c> asks for machines. Ignored by every other executor; no artifact depends on it.</summary>
public sealed record SlurmConfig
{
    /// <summary>Jobs that run at once. Default 2.</summary>
    [AtLeast(1)]
    public int Workers { get; init; } = 2;

    /// <summary>CPUs a job. Default 1. Threads are set to it unless <c>threads</c> says otherwise.</summary>
    [AtLeast(1)]
    public int Cpus { get; init; } = 1;

    /// <summary>Memory a job, as sbatch takes it, e.g. <c>8G</c>. Default: null, the partition's.</summary>
    public string? Memory { get; init; }

    /// <summary>Default: null, the cluster's.</summary>
    public string? Partition { get; init; }

    /// <summary>Time limit a job, as sbatch takes it, e.g. <c>04:00:00</c>. Default: null, the partition's.</summary>
    public string? Time { get; init; }

    /// <summary>Further arguments of sbatch, e.g. <c>--gres=gpu:1</c>. Default none.</summary>
    public IReadOnlyList<string> Arguments { get; init; } = [];
}
