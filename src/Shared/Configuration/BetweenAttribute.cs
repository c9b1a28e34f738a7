namespace Pipeline.Shared.Configuration;

/// <summary>A number from <paramref name="minimum"/> to <paramref name="maximum"/>, both included unless
/// <see cref="BelowMaximum"/> leaves the upper one out.</summary>
public sealed class BetweenAttribute(double minimum, double maximum) : ValueRuleAttribute
{
    public double Minimum { get; } = minimum;

    public double Maximum { get; } = maximum;

    /// <summary>Whether the maximum itself is refused.</summary>
    public bool BelowMaximum { get; init; }

    public override string Expected =>
        BelowMaximum
            ? FormattableString.Invariant($"at least {Minimum} and less than {Maximum}")
            : FormattableString.Invariant($"from {Minimum} to {Maximum}");

    public override bool Holds(object value) =>
        Number(value) is var number && number >= Minimum && (BelowMaximum ? number < Maximum : number <= Maximum);
}
