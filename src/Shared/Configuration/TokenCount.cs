using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>A number of tokens, written plainly or with a suffix: 1500, 200k, 2M, 1.5G.</summary>
public readonly record struct TokenCount(long Value)
{
    private static readonly (char Suffix, long Factor)[] Suffixes =
    [
        ('G', 1_000_000_000),
        ('M', 1_000_000),
        ('k', 1_000),
    ];

    public static implicit operator long(TokenCount count) => count.Value;

    public static implicit operator TokenCount(long value) => new(value);

    public static bool TryParse(string text, out TokenCount count)
    {
        count = default;
        string number = text.Replace("_", "", StringComparison.Ordinal);
        long factor = 1;
        foreach (var (suffix, value) in Suffixes)
        {
            if (number.EndsWith(suffix.ToString(), StringComparison.OrdinalIgnoreCase))
            {
                (number, factor) = (number[..^1], value);
                break;
            }
        }
        const NumberStyles Style = NumberStyles.AllowDecimalPoint;
        if (!decimal.TryParse(number, Style, CultureInfo.InvariantCulture, out decimal parsed))
        {
            return false;
        }
        if (parsed > long.MaxValue / factor || parsed * factor != decimal.Truncate(parsed * factor))
        {
            return false;
        }
        count = new TokenCount((long)(parsed * factor));
        return true;
    }

    /// <summary>The shortest exact form.</summary>
    public override string ToString()
    {
        foreach (var (suffix, factor) in Suffixes)
        {
            if (Value != 0 && Value % factor == 0)
            {
                return (Value / factor).ToString(CultureInfo.InvariantCulture) + suffix;
            }
        }
        return Value.ToString(CultureInfo.InvariantCulture);
    }
}
