using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>Where two JSON values first differ, for saying why something is stale.</summary>
/// <param name="Path">The field, e.g. <c>saes[0].k</c>; empty for the values themselves.</param>
/// <param name="Before">The value there in the first, as canonical JSON, or <c>absent</c>.</param>
/// <param name="After">The value there in the second, as canonical JSON, or <c>absent</c>.</param>
public sealed record JsonDifference(string Path, string Before, string After)
{
    private const string Absent = "absent";

    /// <summary>The first difference by key order, or null when both have the same canonical form.</summary>
    public static JsonDifference? First(JsonNode? before, JsonNode? after) => First("", before, after);

    private static JsonDifference? First(string path, JsonNode? before, JsonNode? after)
    {
        if (before is JsonObject b && after is JsonObject a)
        {
            return b.Concat(a)
                .Select(field => field.Key)
                .Distinct()
                .Order(StringComparer.Ordinal)
                .Select(key => (Path: path.Length == 0 ? key : $"{path}.{key}", Key: key))
                .Select(at =>
                    b.ContainsKey(at.Key) && a.ContainsKey(at.Key)
                        ? First(at.Path, b[at.Key], a[at.Key])
                        : new JsonDifference(
                            at.Path,
                            b.ContainsKey(at.Key) ? Text(b[at.Key]) : Absent,
                            a.ContainsKey(at.Key) ? Text(a[at.Key]) : Absent
                        )
                )
                .FirstOrDefault(difference => difference is not null);
        }
        if (before is JsonArray old && after is JsonArray fresh)
        {
            for (int i = 0; i < Math.Max(old.Count, fresh.Count); i++)
            {
                string at = string.Create(CultureInfo.InvariantCulture, $"{path}[{i}]");
                var difference =
                    i < old.Count && i < fresh.Count
                        ? First(at, old[i], fresh[i])
                        : new JsonDifference(
                            at,
                            i < old.Count ? Text(old[i]) : Absent,
                            i < fresh.Count ? Text(fresh[i]) : Absent
                        );
                if (difference is not null)
                {
                    return difference;
                }
            }
            return null;
        }
        var (was, now) = (Text(before), Text(after));
        return was == now ? null : new JsonDifference(path, was, now);
    }

    private static string Text(JsonNode? node) => Encoding.UTF8.GetString(CanonicalJson.Bytes(node));
}
