namespace Pipeline.Evaluate.Scaling;

/// <summary>
/// Normalised error of k-sparse autoencoders by latents and sparsity,
/// L(n, k) = exp(α + β_k ln k + β_n ln n + γ ln k ln n) + exp(ζ + η ln k): what more latents can remove, and what they
/// cannot (Gao et al. 2024, Scaling and evaluating sparse autoencoders, section 3).
/// </summary>
public sealed record ScalingLaw(double Alpha, double BetaK, double BetaN, double Gamma, double Zeta, double Eta)
{
    /// <summary>The coefficients' names, in the order of <see cref="Coefficients"/>.</summary>
    public static IReadOnlyList<string> Names { get; } = ["alpha", "beta_k", "beta_n", "gamma", "zeta", "eta"];

    public IReadOnlyList<double> Coefficients => [Alpha, BetaK, BetaN, Gamma, Zeta, Eta];

    /// <summary>L(n, k).</summary>
    /// <param name="latents">n.</param>
    /// <param name="k">Latents kept of each token.</param>
    public double Error(double latents, double k)
    {
        var (lnN, lnK) = (Math.Log(latents), Math.Log(k));
        return Math.Exp(Alpha + (BetaK * lnK) + (BetaN * lnN) + (Gamma * lnK * lnN)) + Math.Exp(Zeta + (Eta * lnK));
    }
}

/// <summary>One autoencoder trained to its end.</summary>
/// <param name="Latents">n.</param>
/// <param name="K">Latents kept of each token.</param>
/// <param name="Error">Its normalised squared error, above 0.</param>
public sealed record ScalingPoint(double Latents, double K, double Error);

/// <summary>A fitted law and how far it can be trusted.</summary>
/// <param name="Law">Fitted to all points.</param>
/// <param name="Intervals">Of each coefficient, in their order, what 95 % of the bootstrap's fits lie between.</param>
/// <param name="FitError">Root mean square of ln L̂ - ln L over all points.</param>
/// <param name="HeldOutLatents">The largest n.</param>
/// <param name="HeldOutError">The same over the points of the largest n, by a law fitted to the others.</param>
public sealed record ScalingFit(
    ScalingLaw Law,
    IReadOnlyList<(double Low, double High)> Intervals,
    double FitError,
    double HeldOutLatents,
    double HeldOutError
);
