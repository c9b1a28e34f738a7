namespace Pipeline.Shared.Configuration;

/// <summary>A section: values under keys, in the order written.</summary>
internal sealed class ConfigMapping(long line, string? given) : ConfigNode(line, given)
{
    public OrderedDictionary<string, ConfigNode> Values { get; } = new(StringComparer.Ordinal);

    public override string Described => "a section of keys and values";
}
