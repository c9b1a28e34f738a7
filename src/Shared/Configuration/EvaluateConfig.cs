namespace Pipeline.Shared.Configuration;

/// <summary>Held-out text to metrics.</summary>
public sealed record EvaluateConfig
{
    /// <summary>An upper bound on the held-out tokens scored.</summary>
    [AtLeast(2)]
    public TokenCount Tokens { get; init; } = 20_000;

    /// <summary>Contexts a forward pass.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 16;
}

/// <summary>Metrics to a page.</summary>
public sealed record ReportConfig
{
    /// <summary>Latents shown per SAE with the text they fire on; 0 shows none.</summary>
    [Between(0, 10_000)]
    public int Features { get; init; } = 64;
}
