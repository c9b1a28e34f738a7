using System.Globalization;

namespace Pipeline.Evaluate.Report;

/// <summary>Numbers as the page prints them: invariant, and with as many digits as a reader compares.</summary>
internal static class Numbers
{
    private const string Minus = "\u2212";

    public static string Metric(double? value) =>
        value is not { } v
            ? "–"
            : Math.Abs(v) switch
            {
                0 => "0",
                < 0.001 => Scientific(v),
                < 10 => Format(v, "F4"),
                < 100 => Format(v, "F2"),
                < 1000 => Format(v, "F1"),
                _ => Format(v, "N0"),
            };

    public static string Count(long value) => Format(value, "N0");

    /// <summary>A tick label: 200k, 2M, 0.05.</summary>
    public static string Compact(double value) =>
        Math.Abs(value) switch
        {
            0 => "0",
            < 0.001 => Scientific(value),
            < 10_000 => Format(value, "0.####"),
            < 1e6 => Format(value / 1e3, "0.###") + "k",
            < 1e9 => Format(value / 1e6, "0.###") + "M",
            _ => Format(value / 1e9, "0.###") + "G",
        };

    public static string Duration(double? seconds) =>
        seconds is not { } s
            ? "–"
            : s switch
            {
                < 60 => Format(s, "0.0") + " s",
                < 3600 => Format(Math.Floor(s / 60), "0") + " min " + Format(Math.Floor(s % 60), "00") + " s",
                _ => Format(Math.Floor(s / 3600), "0") + " h " + Format(Math.Floor(s % 3600 / 60), "00") + " min",
            };

    /// <summary>For running text: no trailing zeros.</summary>
    public static string Short(double value) =>
        Math.Abs(value) is > 0 and < 0.001 ? Scientific(value) : Format(value, "0.###");

    public static string Fixed(double value, int decimals) =>
        Format(value, string.Create(CultureInfo.InvariantCulture, $"F{decimals}"));

    private static string Scientific(double value) => Format(value, "0.0#e0");

    private static string Format(double value, string format) =>
        value.ToString(format, CultureInfo.InvariantCulture).Replace("-", Minus, StringComparison.Ordinal);
}
