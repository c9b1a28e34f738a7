using System.Text.Json.Nodes;

namespace Pipeline.Shared.Configuration;

/// <summary>Finds where two JSON trees part, to say why an artifact is stale.</summary>
public static class JsonDiff
{
    private const string Absent = "(absent)";
    private const int LongestShownValue = 200;

    /// <summary>The first difference in the left tree's order, fields only the right has coming last; null when equal.
    /// Numbers are compared by value (1 equals 1.0), objects whatever the order of their keys.</summary>
    /// <returns>The dotted path (<c>$</c> for the root itself) and both values as JSON, cut where they grow
    /// long.</returns>
    public static (string Path, string Left, string Right)? FirstDifference(JsonNode? a, JsonNode? b) =>
        FirstDifference(a, b, "");

    private static (string Path, string Left, string Right)? FirstDifference(JsonNode? a, JsonNode? b, string path)
    {
        switch (a, b)
        {
            case (JsonObject left, JsonObject right):
                return InObjects(left, right, path);
            case (JsonArray left, JsonArray right):
                return InArrays(left, right, path);
            default:
                return JsonNode.DeepEquals(a, b) ? null : (path.Length == 0 ? "$" : path, Shown(a), Shown(b));
        }
    }

    private static (string Path, string Left, string Right)? InObjects(JsonObject left, JsonObject right, string path)
    {
        foreach ((string key, JsonNode? value) in left)
        {
            string keyPath = ConfigPath.Join(path, key);
            if (!right.TryGetPropertyValue(key, out JsonNode? other))
            {
                return (keyPath, Shown(value), Absent);
            }
            if (FirstDifference(value, other, keyPath) is { } difference)
            {
                return difference;
            }
        }
        foreach ((string key, JsonNode? value) in right)
        {
            if (!left.ContainsKey(key))
            {
                return (ConfigPath.Join(path, key), Absent, Shown(value));
            }
        }
        return null;
    }

    private static (string Path, string Left, string Right)? InArrays(JsonArray left, JsonArray right, string path)
    {
        for (int i = 0; i < Math.Max(left.Count, right.Count); i++)
        {
            string itemPath = ConfigPath.Item(path, i);
            if (i >= left.Count)
            {
                return (itemPath, Absent, Shown(right[i]));
            }
            if (i >= right.Count)
            {
                return (itemPath, Shown(left[i]), Absent);
            }
            if (FirstDifference(left[i], right[i], itemPath) is { } difference)
            {
                return difference;
            }
        }
        return null;
    }

    private static string Shown(JsonNode? node)
    {
        string json = node?.ToJsonString() ?? "null";
        return json.Length <= LongestShownValue ? json : json[..LongestShownValue] + "...";
    }
}
