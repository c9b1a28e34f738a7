using System.Globalization;
using Pipeline.Evaluate.Scaling;

namespace Pipeline.Evaluate.Report;

/// <summary>The scaling laws of a run, each with its grid, its two families of lines and its tables; nothing without any.</summary>
internal static class ScalingSection
{
    private const int PointsPerLine = 24;
    private const int RoomForLabels = 58;

    public static Html Link(ReportModel model) =>
        model.Scaling.Count == 0 ? Html.None : Html.Of($"""<li><a href="#scaling">Scaling</a></li>""");

    public static Html Render(ReportModel model) =>
        model.Scaling.Count == 0
            ? Html.None
            : Html.Of(
                $"""
                <section id="scaling" aria-labelledby="scaling-title">
                <h2 id="scaling-title">Scaling</h2>
                <p class="muted">L(n, k) = exp(α + β<sub>k</sub> ln k + β<sub>n</sub> ln n + γ ln k ln n) + exp(ζ + η ln k), fitted to the FVU of autoencoders with n latents of which k fire: what more latents remove, and what they cannot.</p>
                {Html.Join(model.Scaling.Select(Law))}
                </section>
                """
            );

    private static Html Law(ScalingResult result, int index)
    {
        ScalingFit fit = result.Fit;
        string id = string.Create(CultureInfo.InvariantCulture, $"scaling{index + 1}");
        return Html.Of(
            $"""
            <h3>{result.Hook} <span class="muted">{result.Points.Count} {result.Architecture} autoencoders</span></h3>
            <p>The law is off by {Percent(fit.FitError)} (root mean square of ln L) over the grid, and by {Percent(
                fit.HeldOutError
            )} at n = {Numbers.Count((long)fit.HeldOut[0].Latents)} when fitted to the smaller ones alone.</p>
            <div class="grid wide">
            <figure class="panel">{LinesOfK(result, id + "-k")}<figcaption>Points: measured. Solid: the fitted law at each k. Dashed: the slopes published for GPT-4, their constant fitted to these points.</figcaption></figure>
            <figure class="panel">{LinesOfN(result, id + "-n")}<figcaption>The same against k, a line for each n.</figcaption></figure>
            <div class="panel">{Coefficients(result)}</div>
            <div class="panel">{HeldOut(fit)}</div>
            </div>
            <details class="panel" style="margin-top:16px"><summary>What these words mean</summary><dl class="glossary">{Html.Join(
                result.Definitions.Select(d => Html.Of($"""<dt class="key">{d.Key}</dt><dd>{d.Value}</dd>"""))
            )}</dl></details>
            """
        );
    }

    private static Html LinesOfK(ScalingResult result, string id) =>
        Lines(result, id, "n (latents)", "k", point => point.Latents, point => point.K, (n, k) => (n, k));

    private static Html LinesOfN(ScalingResult result, string id) =>
        Lines(result, id, "k (active latents)", "n", point => point.K, point => point.Latents, (k, n) => (n, k));

    /// <summary>FVU against one of n and k, a line for each value of the other; both axes logarithmic.</summary>
    private static Html Lines(
        ScalingResult result,
        string id,
        string xLabel,
        string held,
        Func<ScalingPoint, double> x,
        Func<ScalingPoint, double> line,
        Func<double, double, (double N, double K)> place
    )
    {
        double[] lines = [.. result.Points.Select(line).Distinct().Order()];
        double low = result.Points.Min(x);
        double high = result.Points.Max(x);
        double[] places =
        [
            .. Enumerable
                .Range(0, PointsPerLine)
                .Select(i => low * Math.Pow(high / low, i / (double)(PointsPerLine - 1))),
        ];
        List<(double X, double Y)> Curve(ScalingLaw law, double at) =>
            [
                .. places.Select(p =>
                {
                    var (n, k) = place(p, at);
                    return (p, law.Error(n, k));
                }),
            ];
        var fitted = lines.Select(at => Curve(result.Fit.Law, at)).ToList();
        var published = lines.Select(at => Curve(result.Published, at)).ToList();
        using Chart chart = new(
            ChartAxis.LogarithmicAt(xLabel, [.. result.Points.Select(x)]),
            ChartAxis.Logarithmic(
                "FVU (log)",
                [.. fitted.Concat(published).SelectMany(l => l.Select(p => p.Y)), .. result.Points.Select(p => p.Error)]
            ),
            RoomForLabels
        );
        for (int i = 0; i < lines.Length; i++)
        {
            chart.Dashes(i, published[i]);
            chart.Line(i, fitted[i], $"{held} {Numbers.Compact(lines[i])}");
        }
        foreach (var point in result.Points)
        {
            string title =
                $"n {Numbers.Count((long)point.Latents)}, k {Numbers.Count((long)point.K)}: FVU {Numbers.Metric(point.Error)}, law {Numbers.Metric(result.Fit.Law.Error(point.Latents, point.K))}";
            chart.Point(Array.IndexOf(lines, line(point)), x(point), point.Error, title, label: "");
        }
        return chart.Render(
            id,
            $"FVU against {xLabel} at {result.Hook}, both logarithmic, one line for each {held} of {string.Join(", ", lines.Select(Numbers.Compact))}; the tables beside it hold the law."
        );
    }

    private static Html Coefficients(ScalingResult result)
    {
        IEnumerable<Html> rows = ScalingLaw.Names.Select(
            (name, c) =>
            {
                double published = result.Published.Coefficients[c];
                // Its constant is fitted here, and it has no term without n.
                string shown = name is "beta_k" or "beta_n" or "gamma" ? Numbers.Short(published) : "–";
                return Html.Of(
                    $"""<tr><th scope="row" class="key">{name}</th><td class="n">{Numbers.Fixed(result.Fit.Law.Coefficients[c], 3)}</td><td class="n">{Numbers.Fixed(result.Fit.Intervals[c].Low, 3)} to {Numbers.Fixed(result.Fit.Intervals[c].High, 3)}</td><td class="n">{shown}</td></tr>"""
                );
            }
        );
        return Html.Of(
            $"""<table><caption>Coefficients</caption><thead><tr><th scope="col">coefficient</th><th scope="col" class="n">fitted</th><th scope="col" class="n">95 % of resamples</th><th scope="col" class="n">GPT-4, published</th></tr></thead><tbody>{Html.Join(rows)}</tbody></table>"""
        );
    }

    private static Html HeldOut(ScalingFit fit)
    {
        IEnumerable<Html> rows = fit.HeldOut.Select(point =>
        {
            double predicted = fit.LawOfOthers.Error(point.Latents, point.K);
            return Html.Of(
                $"""<tr><th scope="row" class="n">{Numbers.Count((long)point.K)}</th><td class="n">{Numbers.Metric(point.Error)}</td><td class="n">{Numbers.Metric(predicted)}</td><td class="n">{Percent(Math.Log(predicted / point.Error))}</td></tr>"""
            );
        });
        return Html.Of(
            $"""<table><caption>Held out: n = {Numbers.Count((long)fit.HeldOut[0].Latents)}</caption><thead><tr><th scope="col" class="n">k</th><th scope="col" class="n">FVU</th><th scope="col" class="n">predicted</th><th scope="col" class="n">ln predicted − ln FVU</th></tr></thead><tbody>{Html.Join(rows)}</tbody></table>"""
        );
    }

    private static string Percent(double share) => Numbers.Fixed(share * 100, 2) + " %";
}
