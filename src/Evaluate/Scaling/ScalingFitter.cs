using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.Optimization;
using Pipeline.Shared;

namespace Pipeline.Evaluate.Scaling;

/// <summary>
/// Fits <see cref="ScalingLaw"/> to ln L under Huber's loss, from several starts: least squares by Levenberg and Marquardt,
/// again and again with weights that take from points far off (iteratively reweighted least squares). The intervals are a
/// bootstrap's over residuals: a grid that loses points may lose what tells the coefficients apart.
/// </summary>
public sealed class ScalingFitter
{
    /// <summary>Of ln L: points further off than this count by their distance, not its square.</summary>
    private const double HuberDelta = 0.01;

    /// <summary>ln of a million: how far below the least error a term counts as none.</summary>
    private const double NothingLeft = 13.8;
    private const int MostReweightings = 50;
    private const int IterationsEach = 20;
    private const double Converged = 1e-7;
    private const int Coefficients = 6;

    /// <summary>1, ln k, ln n and their product, centred, of each point.</summary>
    private readonly double[][] planes;
    private readonly double[] lnKCentered;
    private readonly double meanLnN;
    private readonly double meanLnK;
    private readonly double[] lnErrors;

    private ScalingFitter(IReadOnlyList<ScalingPoint> points)
    {
        // Centred, or β and γ would be told apart by small differences of large numbers.
        meanLnN = points.Average(point => Math.Log(point.Latents));
        meanLnK = points.Average(point => Math.Log(point.K));
        lnKCentered = [.. points.Select(point => Math.Log(point.K) - meanLnK)];
        planes =
        [
            .. points.Zip(
                lnKCentered,
                (point, lnK) =>
                {
                    double lnN = Math.Log(point.Latents) - meanLnN;
                    return (double[])[1, lnK, lnN, lnK * lnN];
                }
            ),
        ];
        lnErrors = [.. points.Select(point => Math.Log(point.Error))];
    }

    /// <summary>Fits the law and its intervals.</summary>
    /// <param name="points">A whole grid of at least 4 sizes and 4 sparsities.</param>
    /// <param name="seed">Of the bootstrap.</param>
    /// <param name="resamples">Fits of the bootstrap.</param>
    /// <param name="onResample">Told how many of them are done; what it throws ends the fit.</param>
    /// <exception cref="ConfigurationException">No such grid, or an error that is not above 0.</exception>
    public static ScalingFit Fit(
        IReadOnlyList<ScalingPoint> points,
        ulong seed,
        int resamples = 200,
        Action<int>? onResample = null
    )
    {
        ArgumentNullException.ThrowIfNull(points);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(resamples);
        Require(points);
        var fitter = new ScalingFitter(points);
        var best = fitter.FromSeveralStarts(fitter.lnErrors);
        var law = fitter.LawOf(best);
        double largest = points.Max(point => point.Latents);
        var withoutLargest = new ScalingFitter([.. points.Where(point => point.Latents < largest)]);
        var lawOfOthers = withoutLargest.LawOf(withoutLargest.FromSeveralStarts(withoutLargest.lnErrors));
        List<ScalingPoint> heldOut = [.. points.Where(point => point.Latents == largest).OrderBy(point => point.K)];
        return new ScalingFit(
            law,
            fitter.Bootstrap(best, new Xoshiro256(seed, "scaling", "bootstrap"), resamples, onResample),
            law.DistanceFrom(points),
            lawOfOthers,
            heldOut,
            lawOfOthers.DistanceFrom(heldOut)
        );
    }

    private static void Require(IReadOnlyList<ScalingPoint> points)
    {
        if (ScalingGrid.FaultOf("scaling law", [.. points.Select(p => ((long)p.Latents, (long)p.K))]) is { } fault)
        {
            throw new ConfigurationException(fault.ToString());
        }
        if (points.FirstOrDefault(point => !(point.Error > 0 && double.IsFinite(point.Error))) is { } bad)
        {
            throw new ConfigurationException(
                new Fault(
                    $"scaling law: n = {bad.Latents}, k = {bad.K}",
                    $"an error of {bad.Error}",
                    "a finite number above 0",
                    "Train this autoencoder again or leave it out"
                ).ToString()
            );
        }
    }

    /// <summary>The start whose end has the least loss.</summary>
    private Vector<double> BestOf(double[] wanted, IEnumerable<Vector<double>> starts) =>
        starts.Select(start => Refine(wanted, start)).MinBy(parameters => Loss(wanted, parameters))!;

    private Vector<double> FromSeveralStarts(double[] wanted) => BestOf(wanted, Starts(wanted, [-0.4, -0.1, 0.2]));

    /// <summary>
    /// What cannot be removed taken for a part of the least error, of several slopes; what is left over is a plane in ln n,
    /// ln k and their product.
    /// </summary>
    private IEnumerable<Vector<double>> Starts(double[] wanted, double[] slopes)
    {
        double least = wanted.Min();
        var design = Matrix<double>.Build.Dense(wanted.Length, 4, (i, j) => planes[i][j]);
        foreach (double part in (double[])[0.05, 0.3, 0.6, 0.9])
        {
            foreach (double eta in slopes)
            {
                double zeta = least + Math.Log(part) - Math.Max(eta * lnKCentered.Min(), eta * lnKCentered.Max());
                var left = Vector<double>.Build.Dense(
                    wanted.Length,
                    i => Math.Log(Math.Exp(wanted[i]) - Math.Exp(zeta + (eta * lnKCentered[i])))
                );
                var plane = design.QR().Solve(left);
                yield return Vector<double>.Build.DenseOfEnumerable([.. plane, zeta, eta]);
            }
        }
    }

    private Vector<double> Refine(double[] wanted, Vector<double> start)
    {
        var (lower, upper) = Bounds(wanted);
        // On a bound the minimiser could not leave it.
        var margin = (upper - lower) * 1e-6;
        var parameters = start.PointwiseMaximum(lower + margin).PointwiseMinimum(upper - margin);
        var places = Vector<double>.Build.Dense(wanted.Length, i => i);
        var observed = Vector<double>.Build.DenseOfArray(wanted);
        for (int i = 0; i < MostReweightings; i++)
        {
            var predicted = Predictions(parameters);
            var weights = (observed - predicted).Map(residual =>
                Math.Min(1, HuberDelta / Math.Max(Math.Abs(residual), 1e-300))
            );
            var model = ObjectiveFunction.NonlinearModel(
                (p, _) => Predictions(p),
                (p, _) => Jacobian(p),
                places,
                observed,
                weights
            );
            var next = new LevenbergMarquardtMinimizer(maximumIterations: IterationsEach)
                .FindMinimum(model, parameters, lower, upper)
                .MinimizingPoint;
            double moved = (next - parameters).AbsoluteMaximum();
            parameters = next;
            if (moved < Converged)
            {
                break;
            }
        }
        return parameters;
    }

    /// <summary>
    /// Beyond any law of errors between 0 and 1, and there so that a term the errors do not show stays a number: what cannot
    /// be removed may fall to a millionth of the least error.
    /// </summary>
    private static (Vector<double> Lower, Vector<double> Upper) Bounds(double[] wanted)
    {
        const double SteepestSlope = 10;
        double least = wanted.Min() - NothingLeft;
        double most = wanted.Max() + 1;
        return (
            Vector<double>.Build.DenseOfArray([
                least,
                -SteepestSlope,
                -SteepestSlope,
                -SteepestSlope,
                least,
                -SteepestSlope,
            ]),
            Vector<double>.Build.DenseOfArray([most, SteepestSlope, SteepestSlope, SteepestSlope, most, SteepestSlope])
        );
    }

    private IReadOnlyList<(double Low, double High)> Bootstrap(
        Vector<double> best,
        Xoshiro256 random,
        int resamples,
        Action<int>? onResample
    )
    {
        double[] fitted = [.. Predictions(best)];
        // Residuals of a fit are smaller than the errors by what its coefficients took up.
        double inflation = Math.Sqrt(lnErrors.Length / (double)(lnErrors.Length - Coefficients));
        double[] residuals = [.. lnErrors.Zip(fitted, (error, fit) => inflation * (error - fit))];
        var fits = new List<IReadOnlyList<double>>();
        while (fits.Count < resamples)
        {
            double[] drawn = [.. fitted.Select(fit => fit + residuals[random.NextInt(residuals.Length)])];
            // Errors drawn anew may have their least loss far from where these have it.
            fits.Add(LawOf(BestOf(drawn, [best, .. Starts(drawn, [best[^1]])])).Coefficients);
            onResample?.Invoke(fits.Count);
        }
        return
        [
            .. Enumerable
                .Range(0, Coefficients)
                .Select(c =>
                {
                    double[] sorted = [.. fits.Select(fit => fit[c]).Order()];
                    return (Quantile(sorted, 0.025), Quantile(sorted, 0.975));
                }),
        ];
    }

    private static double Quantile(double[] sorted, double part) =>
        MathNet.Numerics.Statistics.SortedArrayStatistics.Quantile(sorted, part);

    private double Loss(double[] wanted, Vector<double> parameters) =>
        wanted
            .Zip(Predictions(parameters), (want, got) => Math.Abs(want - got))
            .Sum(distance =>
                distance <= HuberDelta ? distance * distance / 2 : HuberDelta * (distance - (HuberDelta / 2))
            );

    /// <summary>ln L̂ of each point.</summary>
    private Vector<double> Predictions(Vector<double> parameters) =>
        Vector<double>.Build.Dense(
            lnErrors.Length,
            i =>
            {
                var (first, second) = Exponents(parameters, i);
                double larger = Math.Max(first, second);
                return larger + Math.Log(Math.Exp(first - larger) + Math.Exp(second - larger));
            }
        );

    private Matrix<double> Jacobian(Vector<double> parameters) =>
        Matrix<double>.Build.DenseOfRowArrays(
            Enumerable
                .Range(0, lnErrors.Length)
                .Select(i =>
                {
                    var (first, second) = Exponents(parameters, i);
                    double share = 1 / (1 + Math.Exp(second - first)); // of the first term
                    double[] plane = planes[i];
                    return (double[])[.. plane.Select(value => share * value), 1 - share, (1 - share) * lnKCentered[i]];
                })
        );

    private (double First, double Second) Exponents(Vector<double> p, int i)
    {
        double[] plane = planes[i];
        return (
            (p[0] * plane[0]) + (p[1] * plane[1]) + (p[2] * plane[2]) + (p[3] * plane[3]),
            p[4] + (p[5] * lnKCentered[i])
        );
    }

    /// <summary>The law in ln n and ln k themselves.</summary>
    private ScalingLaw LawOf(Vector<double> p) =>
        new(
            p[0] - (p[1] * meanLnK) - (p[2] * meanLnN) + (p[3] * meanLnK * meanLnN),
            p[1] - (p[3] * meanLnN),
            p[2] - (p[3] * meanLnK),
            p[3],
            p[4] - (p[5] * meanLnK),
            p[5]
        );
}
