namespace Pipeline.Shared.Configuration;

/// <summary>The static report.</summary>
public sealed record ReportConfig
{
    /// <summary>Latents of each autoencoder that get a page of their own, with examples: a number, spread evenly over the
    /// living ones from the most often firing to the rarest, or <c>all</c>. Default 64; 0 leaves the table of all latents
    /// alone.</summary>
    public FeatureCount Features { get; init; } = new(64);
}
