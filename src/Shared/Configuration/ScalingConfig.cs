namespace Pipeline.Shared.Configuration;

/// <summary>The scaling law of the k-sparse autoencoders at each hook: at least four sizes times four sparsities.</summary>
public sealed record ScalingConfig
{
    /// <summary>Fits of the bootstrap that the coefficients' intervals are taken from. Default 200; below 40 none would lie
    /// outside 95 % on either side.</summary>
    [AtLeast(40)]
    public int Resamples { get; init; } = 200;
}
