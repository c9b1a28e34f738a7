namespace Pipeline.Evaluate.Report;

/// <summary>One axis of a chart: its range in plotted units (log10 of the value on a log axis) and its labelled ticks.</summary>
internal sealed record ChartAxis(string Label, double Min, double Max, bool IsLog, IReadOnlyList<ChartTick> Ticks)
{
    /// <summary>Ranges wider than this factor get a log axis.</summary>
    private const double LogFrom = 20;

    /// <summary>Room between data and the end of an axis, of the data's range: markers are drawn around their place.</summary>
    private const double Margin = 0.04;

    /// <summary>A linear axis over the values; log where they are all positive and span more than a factor of 20.</summary>
    public static ChartAxis Fit(string label, IReadOnlyCollection<double> values)
    {
        double min = values.Min();
        double max = values.Max();
        return min > 0 && max / min > LogFrom ? Log(label, min, max) : Around(label, values);
    }

    /// <summary>A linear axis over the values with room beside the outermost of them.</summary>
    public static ChartAxis Around(string label, IReadOnlyCollection<double> values)
    {
        double pad = (values.Max() - values.Min()) * Margin;
        var axis = Linear(label, values.Min(), values.Max());
        return axis with { Min = Math.Min(axis.Min, values.Min() - pad), Max = Math.Max(axis.Max, values.Max() + pad) };
    }

    /// <summary>A log axis over positive values, whatever their span.</summary>
    public static ChartAxis Logarithmic(string label, IReadOnlyCollection<double> values) =>
        Log(label, values.Min(), values.Max());

    /// <summary>A log axis whose ticks are the values themselves, such as sizes that were chosen.</summary>
    public static ChartAxis LogarithmicAt(string label, IReadOnlyCollection<double> values)
    {
        const int MostTicks = 8;
        double[] places = [.. values.Distinct().Order()];
        int stride = (places.Length + MostTicks - 1) / MostTicks;
        double low = Math.Log10(places[0]);
        double high = Math.Log10(places[^1]);
        double pad = (high - low) * 0.06;
        return new ChartAxis(
            label,
            low - pad,
            high + pad,
            true,
            [.. places.Where((_, i) => i % stride == 0).Select(v => new ChartTick(Math.Log10(v), Numbers.Compact(v)))]
        );
    }

    /// <summary>A linear axis that reaches outwards to its first and last tick.</summary>
    public static ChartAxis Linear(string label, double min, double max)
    {
        if (max - min <= Math.Abs(max) * 1e-9)
        {
            double around = max == 0 ? 1 : Math.Abs(max) * 0.1;
            (min, max) = (min - around, max + around);
        }
        double step = NiceStep((max - min) / 4);
        long first = (long)Math.Floor((min / step) + 1e-9);
        long last = (long)Math.Ceiling((max / step) - 1e-9);
        List<ChartTick> ticks = [];
        for (long i = first; i <= last; i++)
        {
            double at = Math.Round(i * step, 12);
            ticks.Add(new ChartTick(at, Numbers.Compact(at)));
        }
        return new ChartAxis(label, first * step, last * step, false, ticks);
    }

    public double Position(double value) => IsLog ? Math.Log10(value) : value;

    private static ChartAxis Log(string label, double min, double max)
    {
        double low = Math.Log10(min);
        double high = Math.Log10(max);
        double pad = (high - low) * Margin;
        // Decades alone where there are enough of them; some digits of each where there are not.
        int stride = Math.Max(1, (int)Math.Ceiling((high - low) / 5));
        double[] mantissas =
            high - low >= 3 ? [1]
            : high - low >= 1 ? [1, 2, 5]
            : [1, 1.5, 2, 3, 4, 5, 6, 8];
        List<ChartTick> ticks = [];
        for (int decade = (int)Math.Floor(low - pad); decade <= high + pad; decade++)
        {
            foreach (double mantissa in mantissas)
            {
                double at = decade + Math.Log10(mantissa);
                if (at >= low - pad && at <= high + pad && decade % stride == 0)
                {
                    ticks.Add(new ChartTick(at, Numbers.Compact(mantissa * Math.Pow(10, decade))));
                }
            }
        }
        return new ChartAxis(label, low - pad, high + pad, true, ticks);
    }

    private static double NiceStep(double atLeast)
    {
        double decade = Math.Pow(10, Math.Floor(Math.Log10(atLeast)));
        return (atLeast / decade) switch
        {
            <= 1 => decade,
            <= 2 => 2 * decade,
            <= 5 => 5 * decade,
            _ => 10 * decade,
        };
    }
}

/// <summary>A labelled tick, at a place in plotted units.</summary>
internal sealed record ChartTick(double At, string Label);
