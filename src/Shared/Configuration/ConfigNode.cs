namespace Pipeline.Shared.Configuration;

/// <summary>A node of the tree between YAML text and records. It remembers where it was written.</summary>
/// <param name="line">The 1-based line of its key, or of the node itself where it has none.</param>
/// <param name="given">The override it came from, null for the file.</param>
internal abstract class ConfigNode(long line, string? given)
{
    /// <summary>"line 7" or the override, as faults cite it.</summary>
    public string Origin { get; } =
        given is null ? string.Create(System.Globalization.CultureInfo.InvariantCulture, $"line {line}") : given;

    /// <summary>What the node is, as the end of "found ...".</summary>
    public abstract string Described { get; }
}
