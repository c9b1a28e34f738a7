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

    /// <summary>A law of these coefficients, in the order of <see cref="Coefficients"/>.</summary>
    public static ScalingLaw Of(IReadOnlyList<double> coefficients)
    {
        ArgumentNullException.ThrowIfNull(coefficients);
        return new(
            coefficients[0],
            coefficients[1],
            coefficients[2],
            coefficients[3],
            coefficients[4],
            coefficients[5]
        );
    }

    /// <summary>
    /// β_k, β_n and γ as published for GPT-4's residual stream (Gao et al. 2024, section 3). What more latents cannot remove
    /// is left out (ζ of minus infinity), and the constant belongs to the activations it is drawn for.
    /// </summary>
    public static ScalingLaw Published(double alpha) => new(alpha, 0.26, -0.017, -0.042, double.NegativeInfinity, 0);

    /// <summary>The published law whose α is the mean over the points of ln L less the rest.</summary>
    public static ScalingLaw PublishedThrough(IEnumerable<ScalingPoint> points)
    {
        var slopes = Published(0);
        return Published(points.Average(p => Math.Log(p.Error) - Math.Log(slopes.Error(p.Latents, p.K))));
    }

    /// <summary>L(n, k).</summary>
    /// <param name="latents">n.</param>
    /// <param name="k">Latents kept of each token.</param>
    public double Error(double latents, double k)
    {
        var (lnN, lnK) = (Math.Log(latents), Math.Log(k));
        return Math.Exp(Alpha + (BetaK * lnK) + (BetaN * lnN) + (Gamma * lnK * lnN)) + Math.Exp(Zeta + (Eta * lnK));
    }

    /// <summary>Root mean square of ln L̂ - ln L over points.</summary>
    public double DistanceFrom(IEnumerable<ScalingPoint> points) =>
        Math.Sqrt(points.Average(p => Math.Pow(Math.Log(Error(p.Latents, p.K)) - Math.Log(p.Error), 2)));
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
/// <param name="LawOfOthers">Fitted to all points but those of the largest n.</param>
/// <param name="HeldOut">Those of the largest n, by k.</param>
/// <param name="HeldOutError">Root mean square of ln L̂ - ln L over them, L̂ by <paramref name="LawOfOthers"/>.</param>
public sealed record ScalingFit(
    ScalingLaw Law,
    IReadOnlyList<(double Low, double High)> Intervals,
    double FitError,
    ScalingLaw LawOfOthers,
    IReadOnlyList<ScalingPoint> HeldOut,
    double HeldOutError
);
