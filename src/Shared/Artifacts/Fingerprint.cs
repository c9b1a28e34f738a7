using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>Hashes of JSON content that do not depend on the order of keys or on white space.</summary>
public static class Fingerprint
{
    /// <summary>Lowercase hex SHA-256 of the canonical form: keys in ordinal order, no white space.</summary>
    public static string Of(JsonNode? node) =>
        Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(Canonical(node))));

    /// <summary>Path and both values of the first difference in key order, or null when both are the same content.</summary>
    public static (string Path, string Left, string Right)? FirstDifference(
        JsonNode? left,
        JsonNode? right,
        string path = ""
    )
    {
        if (left is JsonObject leftObject && right is JsonObject rightObject)
        {
            return leftObject
                .Select(p => p.Key)
                .Union(rightObject.Select(p => p.Key))
                .Select(key =>
                    FirstDifference(leftObject[key], rightObject[key], path.Length == 0 ? key : $"{path}.{key}")
                )
                .FirstOrDefault(difference => difference is not null);
        }
        if (left is JsonArray leftArray && right is JsonArray rightArray)
        {
            for (int i = 0; i < Math.Max(leftArray.Count, rightArray.Count); i++)
            {
                var difference = FirstDifference(
                    i < leftArray.Count ? leftArray[i] : null,
                    i < rightArray.Count ? rightArray[i] : null,
                    string.Create(CultureInfo.InvariantCulture, $"{path}[{i}]")
                );
                if (difference is not null)
                {
                    return difference;
                }
            }
            return null;
        }
        string leftText = Canonical(left);
        string rightText = Canonical(right);
        return leftText == rightText ? null : (path, leftText, rightText);
    }

    private static string Canonical(JsonNode? node)
    {
        var text = new StringBuilder();
        Append(text, node);
        return text.ToString();
    }

    private static void Append(StringBuilder text, JsonNode? node)
    {
        switch (node)
        {
            case JsonObject pairs:
                text.Append('{');
                foreach (var (index, pair) in pairs.OrderBy(p => p.Key, StringComparer.Ordinal).Index())
                {
                    text.Append(index == 0 ? "" : ",").Append(JsonSerializer.Serialize(pair.Key)).Append(':');
                    Append(text, pair.Value);
                }
                text.Append('}');
                break;
            case JsonArray items:
                text.Append('[');
                foreach (var (index, item) in items.Index())
                {
                    text.Append(index == 0 ? "" : ",");
                    Append(text, item);
                }
                text.Append(']');
                break;
            default:
                text.Append(node?.ToJsonString() ?? "null");
                break;
        }
    }
}
