using System.Text.Json.Nodes;
using Pipeline.Shared.Configuration;

namespace Pipeline.Evaluate.Scaling;

/// <summary>What <c>scaling.json</c> holds: the grid, the law, how far it can be trusted, the published one, definitions.</summary>
internal static class ScalingJson
{
    private static readonly (string Name, string Text)[] Definitions =
    [
        ("law", "L(n, k) = exp(alpha + beta_k ln k + beta_n ln n + gamma ln k ln n) + exp(zeta + eta ln k)"),
        (
            "error",
            "L is fvu, sum |x - x_hat|^2 / sum |x - x_mean|^2 on held-out text: the normalised MSE of the law's source, "
                + "whose baseline is the mean activation. nmse_to_zero has zero as its baseline, so that the size of the "
                + "mean, which no autoencoder has to learn, would pass for a smaller error"
        ),
        ("n", "latents of the autoencoder"),
        ("k", "latents kept of each token in training; l0 is what fired in evaluation"),
        (
            "coefficients",
            "fitted to ln L under Huber's loss of delta 0.01 from 12 starts; low and high enclose 95 % of the fits to "
                + "resampled residuals (scaled by sqrt(points / (points - 6))). They tell how the scatter about the law moves "
                + "a coefficient, not whether the law holds beyond the grid or whether training had converged"
        ),
        ("fit_error", "root mean square of ln(predicted) - ln(fvu) over all points: 0.01 is one per cent"),
        (
            "held_out",
            "the points of the largest n, predicted by the law fitted to all others; error is ln(predicted) - ln(fvu) of "
                + "each, and of all the root mean square"
        ),
        (
            "published",
            "beta_k, beta_n and gamma for GPT-4's residual stream (Gao et al. 2024, Scaling and evaluating sparse "
                + "autoencoders). alpha is fitted here, the mean over the points of ln(fvu) less the rest, and the term "
                + "without n is left out: slopes are compared, not levels"
        ),
    ];

    public static JsonObject Of(
        ScalingGrid grid,
        IReadOnlyList<ScalingMeasurement> measured,
        ScalingFit fit,
        int resamples
    )
    {
        List<ScalingPoint> points = [.. measured.Select(m => m.Point)];
        var published = ScalingLaw.PublishedThrough(points);
        return new JsonObject
        {
            ["hook"] = grid.Hook.ToString(),
            ["architecture"] = Spelling.Of(grid.Saes[0].Architecture),
            ["error"] = "fvu",
            ["coefficients"] = new JsonObject(
                ScalingLaw.Names.Select(
                    (name, c) =>
                        KeyValuePair.Create(
                            name,
                            (JsonNode?)
                                new JsonObject
                                {
                                    ["value"] = fit.Law.Coefficients[c],
                                    ["low"] = fit.Intervals[c].Low,
                                    ["high"] = fit.Intervals[c].High,
                                }
                        )
                )
            ),
            ["resamples"] = resamples,
            ["fit_error"] = fit.FitError,
            ["held_out"] = new JsonObject
            {
                ["n"] = fit.HeldOut[0].Latents,
                ["error"] = fit.HeldOutError,
                ["points"] = new JsonArray([.. fit.HeldOut.Select(point => Prediction(point, fit.LawOfOthers))]),
                ["coefficients"] = new JsonObject(
                    ScalingLaw.Names.Zip(
                        fit.LawOfOthers.Coefficients,
                        (name, value) => KeyValuePair.Create(name, (JsonNode?)value)
                    )
                ),
            },
            ["published"] = new JsonObject
            {
                ["alpha"] = published.Alpha,
                ["beta_k"] = published.BetaK,
                ["beta_n"] = published.BetaN,
                ["gamma"] = published.Gamma,
                ["fit_error"] = published.DistanceFrom(points),
            },
            ["points"] = new JsonArray([
                .. measured.Select(m =>
                {
                    var point = Prediction(m.Point, fit.Law);
                    point["nmse_to_zero"] = m.NmseToZero;
                    point["l0"] = m.L0;
                    point["sae"] = m.Sae;
                    return (JsonNode)point;
                }),
            ]),
            ["definitions"] = new JsonObject(
                Definitions.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text))
            ),
        };
    }

    private static JsonObject Prediction(ScalingPoint point, ScalingLaw law)
    {
        double predicted = law.Error(point.Latents, point.K);
        return new JsonObject
        {
            ["n"] = point.Latents,
            ["k"] = point.K,
            ["fvu"] = point.Error,
            ["predicted"] = predicted,
            ["error"] = Math.Log(predicted / point.Error),
        };
    }
}
