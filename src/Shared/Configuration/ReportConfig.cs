namespace Pipeline.Shared.Configuration;

/// <summary>The static report.</summary>
public sealed record ReportConfig
{
    /// <summary>Features shown with their examples, per autoencoder. Default 64; 0 shows the metrics alone.</summary>
    [AtLeast(0)]
    public int Features { get; init; } = 64;
}
