using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>A number of an autoencoder's latents, or all of them: <c>64</c>, <c>all</c>.</summary>
public readonly record struct FeatureCount
{
    private const string AllName = "all";

    /// <exception cref="ArgumentOutOfRangeException"><paramref name="value"/> is negative.</exception>
    public FeatureCount(int value)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(value);
        Value = value;
    }

    /// <summary>Every latent, however many there are.</summary>
    public static FeatureCount All { get; } = new() { Value = null };

    /// <summary>Latents, zero or more; null where all are meant.</summary>
    public int? Value { get; private init; }

    /// <summary>Reads what <see cref="ToString"/> writes, and numbers as <see cref="TokenCount"/> spells them.</summary>
    /// <returns>Whether the text is one that fits.</returns>
    public static bool TryParse(string text, out FeatureCount count)
    {
        count = All;
        if (text == AllName)
        {
            return true;
        }
        if (!TokenCount.TryParse(text, out TokenCount number) || number.Value > int.MaxValue)
        {
            return false;
        }
        count = new FeatureCount((int)number.Value);
        return true;
    }

    public override string ToString() => Value?.ToString(CultureInfo.InvariantCulture) ?? AllName;
}
