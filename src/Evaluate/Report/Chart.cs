using System.Globalization;
using System.Xml.Linq;
using ScottPlot;

namespace Pipeline.Evaluate.Report;

/// <summary>
/// An SVG chart: ScottPlot draws grid, lines, markers and bars; this class writes the text and swaps ScottPlot's colours
/// for the page's CSS variables.
/// </summary>
/// <remarks>
/// Text is not left to ScottPlot because Skia lays out each glyph with the fonts of the machine that renders: the bytes
/// would depend on it, and a machine without fonts would write none. Colours are variables so that one chart suits light
/// and dark pages.
/// </remarks>
internal sealed class Chart : IDisposable
{
    private const int Width = 460;
    private const int Height = 290;
    private const int Left = 46;
    private const int RoomForNumbers = 26;
    private const int Top = 30;
    private const int Bottom = 44;
    private const int LabelHeight = 13;

    /// <summary>Colours of the page's palette; further series reuse them with a dash pattern.</summary>
    public const int PaletteSize = 8;

    private readonly Plot _plot = new();
    private readonly ChartAxis _x;
    private readonly ChartAxis _y;
    private readonly int _right;
    private readonly List<Html> _overlay = [];
    private readonly List<(int Series, string Text, double X, double Y)> _labels = [];

    /// <param name="x">From left to right.</param>
    /// <param name="y">From bottom to top.</param>
    /// <param name="right">Pixels to the right of the data, for labels at the ends of lines.</param>
    public Chart(ChartAxis x, ChartAxis y, int right = RoomForNumbers)
    {
        (_x, _y, _right) = (x, y, right);
        _plot.Layout.Fixed(new PixelPadding(Left, right, Bottom, Top));
        _plot.FigureBackground.Color = Colors.Transparent;
        _plot.DataBackground.Color = Colors.Transparent;
        _plot.Axes.SetLimits(x.Min, x.Max, y.Min, y.Max);
        foreach (IAxis axis in _plot.Axes.GetAxes())
        {
            axis.FrameLineStyle.Width = 0;
            axis.TickLabelStyle.IsVisible = false;
            axis.MajorTickStyle.Length = 0;
            axis.MinorTickStyle.Length = 0;
        }
        _plot.Axes.Bottom.TickGenerator = Ticks(x);
        _plot.Axes.Left.TickGenerator = Ticks(y);
        _plot.Axes.Bottom.FrameLineStyle.Width = 1;
        _plot.Axes.Bottom.FrameLineStyle.Color = ChartColors.Axis;
        _plot.Grid.MajorLineColor = ChartColors.Grid;
    }

    /// <summary>A line with the series' number at its end, or another label.</summary>
    public void Line(int series, IReadOnlyList<(double X, double Y)> points, string? label = null)
    {
        Path(ChartColors.Series(series), points);
        (double x, double y) = points[^1];
        _labels.Add((series, label ?? Number(series), PixelX(_x.Position(x)) + 6, PixelY(_y.Position(y))));
    }

    /// <summary>A dashed line in the series' colour, without a label.</summary>
    public void Dashes(int series, IReadOnlyList<(double X, double Y)> points) =>
        Path(ChartColors.Series((series % PaletteSize) + PaletteSize), points);

    /// <summary>A line that is no series, drawn as the axes are.</summary>
    public void Front(IReadOnlyList<(double X, double Y)> points) => Path(ChartColors.Axis, points);

    private void Path(Color color, IReadOnlyList<(double X, double Y)> points)
    {
        var line = _plot.Add.ScatterLine(
            points.Select(p => _x.Position(p.X)).ToArray(),
            points.Select(p => _y.Position(p.Y)).ToArray(),
            color
        );
        line.LineWidth = 1.75f;
    }

    /// <summary>A point with the series' number beside it, or another label; none where that is empty.</summary>
    public void Point(int series, double x, double y, string title, string? label = null)
    {
        (x, y) = (_x.Position(x), _y.Position(y));
        _plot.Add.Marker(x, y, MarkerShape.FilledCircle, 9, ChartColors.Series(series));
        if (label != "")
        {
            _labels.Add((series, label ?? Number(series), PixelX(x) + 8, PixelY(y)));
        }
        _overlay.Add(
            Html.Of(
                $"<circle class=\"hit\" cx=\"{PixelX(x):F1}\" cy=\"{PixelY(y):F1}\" r=\"10\"><title>{title}</title></circle>"
            )
        );
    }

    public void Bar(int series, double from, double to, double value, string title)
    {
        _plot.Add.Bar(
            new Bar
            {
                Position = (from + to) / 2,
                Size = (to - from) * 0.92,
                Value = value,
                FillColor = ChartColors.Series(series),
                LineWidth = 0,
            }
        );
        _overlay.Add(
            Html.Of(
                $"<rect class=\"hit\" x=\"{PixelX(from):F1}\" y=\"{Top}\" width=\"{PixelX(to) - PixelX(from):F1}\" height=\"{Height - Top - Bottom}\"><title>{title}</title></rect>"
            )
        );
    }

    /// <param name="id">Unique in the page; prefixes every id inside.</param>
    /// <param name="description">What a reader who cannot see the chart should know.</param>
    public Html Render(string id, string description)
    {
        var drawing = XDocument.Parse(_plot.GetSvgXml(Width, Height));
        return Html.Of(
            $"<svg viewBox=\"0 0 {Width} {Height}\" role=\"img\" aria-label=\"{description}\">{Adopt(drawing, id)}{Text()}{Html.Join(_overlay)}</svg>"
        );
    }

    public void Dispose() => _plot.Dispose();

    /// <summary>The drawing's elements without namespaces, with ids of their own and the page's colours.</summary>
    private static Html Adopt(XDocument drawing, string id)
    {
        XElement root = drawing.Root!;
        // Skia counts ids per canvas, so two charts in one page would share them.
        Dictionary<string, string> ids = root.Descendants()
            .Attributes("id")
            .Select(a => a.Value)
            .Distinct()
            .Select((old, i) => (old, own: string.Create(CultureInfo.InvariantCulture, $"{id}-{i}")))
            .ToDictionary(p => p.old, p => p.own);
        // Black is left on nothing but ticks of no length.
        root.Descendants()
            .Where(e => e.Name.LocalName == "text" || (string?)e.Attribute("stroke") == "black")
            .Remove();
        foreach (XElement element in root.Descendants())
        {
            element.Name = element.Name.LocalName;
            foreach (XAttribute attribute in element.Attributes().ToArray())
            {
                if (attribute.IsNamespaceDeclaration)
                {
                    attribute.Remove();
                }
                else if (attribute.Name == "id")
                {
                    attribute.Value = ids[attribute.Value];
                }
                else if (attribute.Value.StartsWith("url(#", StringComparison.Ordinal))
                {
                    attribute.Value = $"url(#{ids[attribute.Value[5..^1]]})";
                }
                else if (ChartColors.Style(attribute) is { } style)
                {
                    attribute.Remove();
                    element.SetAttributeValue("style", (string?)element.Attribute("style") + style);
                }
            }
        }
        return new Html(string.Concat(root.Elements().Select(e => e.ToString(SaveOptions.DisableFormatting))));
    }

    private Html Text()
    {
        List<Html> text =
        [
            Html.Of($"<text class=\"axis\" x=\"4\" y=\"14\">{_y.Label}</text>"),
            Html.Of(
                $"<text class=\"axis\" x=\"{(Left + Width - _right) / 2}\" y=\"{Height - 6}\" text-anchor=\"middle\">{_x.Label}</text>"
            ),
        ];
        text.AddRange(
            _x.Ticks.Select(t =>
                Html.Of(
                    $"<text x=\"{PixelX(t.At):F1}\" y=\"{Height - Bottom + 16}\" text-anchor=\"middle\">{t.Label}</text>"
                )
            )
        );
        text.AddRange(
            _y.Ticks.Select(t =>
                Html.Of($"<text x=\"{Left - 6}\" y=\"{PixelY(t.At) + 4:F1}\" text-anchor=\"end\">{t.Label}</text>")
            )
        );
        text.AddRange(
            SpreadLabels()
                .Select(l =>
                    Html.Of(
                        $"<text class=\"mark\" x=\"{l.X:F1}\" y=\"{l.Y + 4:F1}\" style=\"fill:var(--s{l.Series % PaletteSize})\">{l.Text}</text>"
                    )
                )
        );
        return Html.Join(text);
    }

    /// <summary>Moves a label down where it would cover the one above it in the same stretch of x.</summary>
    private List<(int Series, string Text, double X, double Y)> SpreadLabels()
    {
        List<(int Series, string Text, double X, double Y)> placed = [];
        foreach ((int series, string text, double x, double y) in _labels.OrderBy(l => l.Y).ThenBy(l => l.Series))
        {
            double free = y;
            foreach ((_, _, double otherX, double otherY) in placed)
            {
                if (Math.Abs(otherX - x) < 16 && Math.Abs(otherY - free) < LabelHeight)
                {
                    free = otherY + LabelHeight;
                }
            }
            placed.Add((series, text, x, free));
        }
        return placed;
    }

    private static string Number(int series) => (series + 1).ToString(CultureInfo.InvariantCulture);

    private double PixelX(double at) => Left + ((at - _x.Min) / (_x.Max - _x.Min) * (Width - Left - _right));

    private double PixelY(double at) => Height - Bottom - ((at - _y.Min) / (_y.Max - _y.Min) * (Height - Top - Bottom));

    private static ScottPlot.TickGenerators.NumericManual Ticks(ChartAxis axis)
    {
        ScottPlot.TickGenerators.NumericManual ticks = new();
        foreach (ChartTick tick in axis.Ticks)
        {
            ticks.AddMajor(tick.At, "");
        }
        return ticks;
    }
}

/// <summary>
/// Stand-in colours that ScottPlot draws with, and the CSS each becomes. Red 0x1F keeps Skia from writing a colour by
/// name or in three digits, so each survives as six.
/// </summary>
internal static class ChartColors
{
    private const byte Red = 0x1F;
    private const byte SeriesGreen = 0x2D;
    private const byte FurnitureGreen = 0x2E;

    public static Color Grid { get; } = new(Red, FurnitureGreen, 0);
    public static Color Axis { get; } = new(Red, FurnitureGreen, 1);

    public static Color Series(int index) => new(Red, SeriesGreen, (byte)(index % 240));

    /// <summary>The CSS for a fill or stroke in a stand-in colour; null for any other attribute.</summary>
    public static string? Style(XAttribute attribute)
    {
        if (
            attribute.Name.LocalName is not ("fill" or "stroke")
            || attribute.Value is not ['#', _, _, _, _, _, _]
            || !int.TryParse(attribute.Value[1..], NumberStyles.HexNumber, CultureInfo.InvariantCulture, out int rgb)
        )
        {
            return null;
        }
        int blue = rgb & 0xFF;
        string? color = (rgb >> 8) switch
        {
            (Red << 8) | SeriesGreen => $"var(--s{blue % Chart.PaletteSize})",
            (Red << 8) | FurnitureGreen => blue == 0 ? "var(--grid)" : "var(--axis)",
            _ => null,
        };
        return color is null ? null : $"{attribute.Name.LocalName}:{color};{Dash(rgb >> 8, blue)}";
    }

    private static string Dash(int redGreen, int blue) =>
        redGreen != ((Red << 8) | SeriesGreen)
            ? ""
            : (blue / Chart.PaletteSize % 3) switch
            {
                1 => "stroke-dasharray:6 3;",
                2 => "stroke-dasharray:2 3;",
                _ => "",
            };
}
