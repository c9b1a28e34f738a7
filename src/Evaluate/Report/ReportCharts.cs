namespace Pipeline.Evaluate.Report;

/// <summary>The charts of the page; series i is autoencoder i of the model, in colour and number, in every chart.</summary>
internal static class ReportCharts
{
    /// <summary>Points drawn per line; a log of a long training holds far more than a chart can show.</summary>
    private const int PointsPerLine = 400;

    /// <summary>One line per autoencoder; null where no training log holds the value.</summary>
    public static Html? TrainingCurve(ReportModel model, string id, string label, Func<TrainingPoint, double?> value)
    {
        List<(int Series, List<(double X, double Y)> Points)> lines =
        [
            .. model
                .Saes.Select((sae, i) => (Series: i, Points: Thin(Known(sae.Curve, value))))
                .Where(l => l.Points.Count > 0),
        ];
        if (lines.Count == 0)
        {
            return null;
        }
        double lastToken = lines.Max(l => l.Points[^1].X);
        using Chart chart = new(
            ChartAxis.Linear("tokens", 0, lastToken),
            ChartAxis.Fit(label, [.. lines.SelectMany(l => l.Points.Select(p => p.Y))])
        );
        foreach ((int series, List<(double X, double Y)> points) in lines)
        {
            chart.Line(series, points);
        }
        IEnumerable<string> ends = lines.Select(l =>
            $"{l.Series + 1}: {Numbers.Metric(l.Points[0].Y)} to {Numbers.Metric(l.Points[^1].Y)}"
        );
        return chart.Render(
            id,
            $"{label} against training tokens. First and last value of each line: {string.Join("; ", ends)}."
        );
    }

    /// <summary>The sparsity/fidelity trade with its Pareto fronts; null where no autoencoder has both numbers.</summary>
    public static Html? SparsityAgainstLossRecovered(ReportModel model, string id) =>
        Trade(model, id, "loss recovered", metrics => metrics.LossRecovered, moreIsBetter: true);

    /// <summary>The same for the variance left over.</summary>
    public static Html? SparsityAgainstFvu(ReportModel model, string id) =>
        Trade(model, id, "FVU", metrics => metrics.Fvu, moreIsBetter: false);

    private static Html? Trade(
        ReportModel model,
        string id,
        string label,
        Func<SaeMetrics, double?> value,
        bool moreIsBetter
    )
    {
        List<(int Series, double L0, double Value)> points = [];
        for (int i = 0; i < model.Saes.Count; i++)
        {
            SaeMetrics metrics = model.Saes[i].Metrics;
            if (metrics.L0 is { } l0 && value(metrics) is { } measured)
            {
                points.Add((i, l0, measured));
            }
        }
        if (points.Count == 0)
        {
            return null;
        }
        using Chart chart = new(
            ChartAxis.Fit("L0 (active latents per token)", [.. points.Select(p => p.L0)]),
            ChartAxis.Around(label, [.. points.Select(p => p.Value)])
        );
        // Autoencoders of one hook compete; those of two have different tasks.
        foreach (var hook in points.GroupBy(p => model.Saes[p.Series].Hook))
        {
            var front = ParetoFront(hook.Select(p => (p.L0, p.Value)), moreIsBetter);
            if (front.Count > 1)
            {
                chart.Front(front);
            }
        }
        foreach ((int series, double l0, double measured) in points)
        {
            SaeResult sae = model.Saes[series];
            chart.Point(
                series,
                l0,
                measured,
                $"{series + 1}. {sae.Sae}, {sae.Hook}: L0 {Numbers.Metric(l0)}, {label} {Numbers.Metric(measured)}"
            );
        }
        return chart.Render(id, $"L0 against {label}, one point per autoencoder; the table above holds the numbers.");
    }

    /// <summary>The points that no other beats in both, by L0: none with fewer active latents is as good.</summary>
    internal static IReadOnlyList<(double L0, double Value)> ParetoFront(
        IEnumerable<(double L0, double Value)> points,
        bool moreIsBetter
    )
    {
        double Badness(double value) => moreIsBetter ? -value : value;
        List<(double L0, double Value)> front = [];
        foreach (var point in points.OrderBy(p => p.L0).ThenBy(p => Badness(p.Value)))
        {
            if (front.Count == 0 || Badness(point.Value) < Badness(front[^1].Value))
            {
                front.Add(point);
            }
        }
        return front;
    }

    /// <summary>Latents per bin of log10 firing frequency; x is shared by all autoencoders so that they compare.</summary>
    public static Html? Density(ReportModel model, int series, string id)
    {
        List<double[]> allEdges = [.. model.Saes.Select(s => s.Metrics.Density.Edges).Where(e => e.Length > 1)];
        DensityHistogram histogram = model.Saes[series].Metrics.Density;
        if (histogram.Counts.Length == 0)
        {
            return null;
        }
        using Chart chart = new(
            ChartAxis.Linear("log₁₀ firing frequency", allEdges.Min(e => e[0]), allEdges.Max(e => e[^1])),
            ChartAxis.Linear("latents", 0, Math.Max(1, histogram.Counts.Max()))
        );
        for (int i = 0; i < histogram.Counts.Length; i++)
        {
            if (histogram.Counts[i] > 0)
            {
                (double from, double to) = (histogram.Edges[i], histogram.Edges[i + 1]);
                string range = $"10^{Numbers.Compact(from)} to 10^{Numbers.Compact(to)}";
                chart.Bar(
                    series,
                    from,
                    to,
                    histogram.Counts[i],
                    $"{Numbers.Compact(histogram.Counts[i])} latents: {range}"
                );
            }
        }
        return chart.Render(
            id,
            $"Histogram of log10 firing frequency of {model.Saes[series].Sae} at {model.Saes[series].Hook}: "
                + $"{Numbers.Compact(histogram.Counts.Sum())} latents that fired."
        );
    }

    private static List<(double X, double Y)> Known(
        IReadOnlyList<TrainingPoint> curve,
        Func<TrainingPoint, double?> value
    ) => [.. curve.Where(p => value(p) is not null).Select(p => ((double)p.Tokens, value(p)!.Value))];

    /// <summary>Every n-th point and the last one, so that the line ends where training ended.</summary>
    private static List<(double X, double Y)> Thin(List<(double X, double Y)> points)
    {
        int stride = (points.Count + PointsPerLine - 1) / PointsPerLine;
        return [.. points.Where((_, i) => i % stride == 0 || i == points.Count - 1)];
    }
}
