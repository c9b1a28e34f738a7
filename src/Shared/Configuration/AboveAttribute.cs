namespace Pipeline.Shared.Configuration;

/// <summary>A number greater than <paramref name="bound"/>.</summary>
public sealed class AboveAttribute(double bound) : ValueRuleAttribute
{
    public double Bound { get; } = bound;

    public override string Expected => FormattableString.Invariant($"more than {Bound}");

    public override bool Holds(object value) => Number(value) > Bound;
}
