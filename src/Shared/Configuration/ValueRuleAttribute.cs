namespace Pipeline.Shared.Configuration;

/// <summary>What a configuration value must fulfil by itself. The binder asks each rule of a property about the value
/// that was given; a value left out, or null, is not asked about.</summary>
[AttributeUsage(AttributeTargets.Property)]
public abstract class ValueRuleAttribute : Attribute
{
    /// <summary>What a value must be, as the end of "expected ...".</summary>
    public abstract string Expected { get; }

    /// <summary>Whether <paramref name="value"/> (a number, a <see cref="TokenCount"/>, a text or a list) is
    /// one.</summary>
    public abstract bool Holds(object value);

    /// <summary>The value on the real line, for rules about ranges.</summary>
    private protected static double Number(object value) =>
        value is TokenCount count
            ? count.Value
            : Convert.ToDouble(value, System.Globalization.CultureInfo.InvariantCulture);
}
