using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>Dotted paths of configuration fields: <c>train.saes[0].k</c>.</summary>
public static class ConfigPath
{
    /// <summary>The path of <paramref name="key"/> below <paramref name="parent"/>, which may be the empty
    /// root.</summary>
    public static string Join(string parent, string key) => parent.Length == 0 ? key : $"{parent}.{key}";

    /// <summary>The path of the item at <paramref name="index"/> of the list <paramref name="parent"/>.</summary>
    public static string Item(string parent, int index) =>
        string.Create(CultureInfo.InvariantCulture, $"{parent}[{index}]");

    /// <summary>The path one level up; empty for a field of the root.</summary>
    internal static string Parent(string path) => path[..Math.Max(0, path.LastIndexOfAny(['.', '[']))];
}
