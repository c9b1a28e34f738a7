using System.Text.Json.Nodes;

namespace Pipeline.Evaluate;

/// <summary>Figures as JSON, which has no word for NaN and infinity.</summary>
internal static class MetricNumber
{
    /// <summary>The figure; null where it is undefined, as a ratio to nothing is.</summary>
    public static JsonValue? Of(double value) => double.IsFinite(value) ? JsonValue.Create(value) : null;
}
