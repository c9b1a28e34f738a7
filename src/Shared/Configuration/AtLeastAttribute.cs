namespace Pipeline.Shared.Configuration;

/// <summary>A number of <paramref name="minimum"/> or more.</summary>
public sealed class AtLeastAttribute(double minimum) : ValueRuleAttribute
{
    public double Minimum { get; } = minimum;

    public override string Expected => FormattableString.Invariant($"at least {Minimum}");

    public override bool Holds(object value) => Number(value) >= Minimum;
}
