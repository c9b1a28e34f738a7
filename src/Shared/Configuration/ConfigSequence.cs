namespace Pipeline.Shared.Configuration;

/// <summary>A list.</summary>
internal sealed class ConfigSequence(long line, string? given) : ConfigNode(line, given)
{
    public List<ConfigNode> Items { get; } = [];

    public override string Described => Items.Count == 0 ? "an empty list" : "a list";
}
