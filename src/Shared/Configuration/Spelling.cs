using System.Reflection;
using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pipeline.Shared.Configuration;

/// <summary>How names of the code are spelled in files: keys in camelCase, enum values in kebab-case unless
/// <see cref="JsonStringEnumMemberNameAttribute"/> says otherwise.</summary>
public static class Spelling
{
    private const int LongestComparedKey = 64;
    private const int LongestShownText = 80;

    /// <summary>The spelling of an enum value in configuration, manifests and folder names: <c>topk</c>.</summary>
    public static string Of(Enum value)
    {
        string member = value.ToString();
        FieldInfo? field = value.GetType().GetField(member);
        return field?.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()?.Name
            ?? JsonNamingPolicy.KebabCaseLower.ConvertName(member);
    }

    /// <summary>The key of a property: <c>auxK</c> for AuxK.</summary>
    internal static string Key(string property) => JsonNamingPolicy.CamelCase.ConvertName(property);

    internal static string AllOf(Type enumType) => string.Join(", ", Enum.GetValues(enumType).Cast<Enum>().Select(Of));

    /// <summary>The enum value spelled so, in whatever case and with or without hyphens and underscores.</summary>
    internal static Enum? ParseEnum(Type enumType, string text)
    {
        string wanted = Bare(text);
        return text.Length > LongestComparedKey
            ? null
            : Enum.GetValues(enumType).Cast<Enum>().FirstOrDefault(value => Bare(Of(value)) == wanted);
    }

    /// <summary>The candidate closest to what was written, or null where none is close enough to be meant.</summary>
    internal static string? Nearest(string written, IEnumerable<string> candidates)
    {
        if (written.Length > LongestComparedKey)
        {
            return null;
        }
        string bare = Bare(written);
        (string? nearest, int distance) = (null, int.MaxValue);
        foreach (string candidate in candidates)
        {
            int next = EditDistance(bare, Bare(candidate));
            if (next < distance)
            {
                (nearest, distance) = (candidate, next);
            }
        }
        return distance <= Math.Max(1, bare.Length / 2) ? nearest : null;
    }

    /// <summary>A text of unknown origin on one line, without control characters, cut where it grows long.</summary>
    internal static string Shown(string text)
    {
        string start = text.Length > LongestShownText ? text[..LongestShownText] : text;
        var shown = new StringBuilder(start.Length);
        foreach (char c in start)
        {
            shown.Append(char.IsControl(c) || char.IsSurrogate(c) ? '\uFFFD' : c);
        }
        return text.Length > LongestShownText ? shown.Append("...").ToString() : shown.ToString();
    }

    private static string Bare(string text) =>
        text.Replace("-", "", StringComparison.Ordinal).Replace("_", "", StringComparison.Ordinal).ToLowerInvariant();

    /// <summary>Levenshtein distance: the fewest insertions, deletions and replacements between two texts.</summary>
    private static int EditDistance(string a, string b)
    {
        int[] row = [.. Enumerable.Range(0, b.Length + 1)];
        for (int i = 0; i < a.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i + 1;
            for (int j = 0; j < b.Length; j++)
            {
                int replaced = diagonal + (a[i] == b[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = Math.Min(replaced, 1 + Math.Min(diagonal, row[j]));
            }
        }
        return row[^1];
    }
}
