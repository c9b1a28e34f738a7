namespace Pipeline.Shared.Configuration;

/// <summary>A list of sections that a key beside it may add to: there, lists of values stand for every combination of
/// them.</summary>
/// <param name="key">That key.</param>
[AttributeUsage(AttributeTargets.Property)]
public sealed class SweptAttribute(string key) : Attribute
{
    public string Key => key;
}
