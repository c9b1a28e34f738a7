using System.Globalization;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Configuration;

/// <summary>A number of tokens, written in full or with a decimal suffix: <c>200k</c>, <c>2M</c>, <c>1.5G</c>,
/// <c>2_000_000</c>.</summary>
public readonly partial record struct TokenCount
{
    private static readonly (string Suffix, decimal Scale)[] Suffixes =
    [
        ("", 1),
        ("k", 1e3m),
        ("M", 1e6m),
        ("G", 1e9m),
    ];

    // Beyond this many characters decimal would round instead of refuse.
    private const int LongestText = 28;

    /// <exception cref="ArgumentOutOfRangeException"><paramref name="value"/> is negative.</exception>
    public TokenCount(long value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(value);
        Value = value;
    }

    /// <summary>Tokens, zero or more.</summary>
    public long Value { get; }

    /// <summary>Reads what <see cref="ToString"/> writes, and any other exact spelling of a whole number of
    /// tokens.</summary>
    /// <returns>Whether the text is one that fits.</returns>
    public static bool TryParse(string text, out TokenCount count)
    {
        count = default;
        if (text.Length > LongestText || Written().Match(text) is not { Success: true } match)
        {
            return false;
        }
        decimal number = decimal.Parse(
            match.Groups["number"].Value.Replace("_", "", StringComparison.Ordinal),
            NumberStyles.AllowDecimalPoint,
            CultureInfo.InvariantCulture
        );
        string suffix = match.Groups["suffix"].Value.Replace('K', 'k');
        decimal scale = Suffixes.First(s => s.Suffix == suffix).Scale;
        if (number > long.MaxValue / scale || decimal.Truncate(number * scale) != number * scale)
        {
            return false;
        }
        count = new TokenCount((long)(number * scale));
        return true;
    }

    /// <summary>The shortest exact spelling, in full where a suffix saves nothing: 200k, 2M, 1500.</summary>
    public override string ToString()
    {
        string shortest = Value.ToString(CultureInfo.InvariantCulture);
        foreach ((string suffix, decimal scale) in Suffixes)
        {
            string spelled = (Value / scale).ToString("0.#########", CultureInfo.InvariantCulture) + suffix;
            shortest = spelled.Length < shortest.Length ? spelled : shortest;
        }
        return shortest;
    }

    [GeneratedRegex(@"^(?<number>[0-9]+(_[0-9]+)*(\.[0-9]+)?)(?<suffix>[kKMG]?)\z", RegexOptions.ExplicitCapture)]
    private static partial Regex Written();
}
