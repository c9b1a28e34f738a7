namespace Pipeline.Shared.Configuration;

/// <summary>What the fault for this key's absence tells the reader to do, in place of "Add it".</summary>
/// <param name="remedy">A sentence without its full stop.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class RemedyAttribute(string remedy) : Attribute
{
    public string Remedy { get; } = remedy;
}
