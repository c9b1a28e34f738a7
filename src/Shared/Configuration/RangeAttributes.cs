namespace Pipeline.Shared.Configuration;

/// <summary>The least value a number may have.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class AtLeastAttribute(double minimum) : Attribute
{
    public double Minimum => minimum;
}

/// <summary>The range a number must lie in, both ends included.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class BetweenAttribute(double minimum, double maximum) : Attribute
{
    public double Minimum => minimum;
    public double Maximum => maximum;
}

/// <summary>What to do when a required key is missing; for keys that are often given on the command line.</summary>
[AttributeUsage(AttributeTargets.Property)]
public sealed class RemedyAttribute(string remedy) : Attribute
{
    public string Remedy => remedy;
}
