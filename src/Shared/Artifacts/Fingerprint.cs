using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// What a stage's result depends on, as one hash: two runs with the same fingerprint have the same result on the same
/// machine. Paths, devices, versions and times stand outside it.
/// </summary>
public static class Fingerprint
{
    /// <param name="schema">The artifact format's version.</param>
    /// <param name="stage">The stage's name, e.g. <c>harvest</c>.</param>
    /// <param name="config">The stage's resolved configuration; the order of its keys does not matter.</param>
    /// <param name="inputs">Name and fingerprint (or content hash) of every input; their order does not matter.</param>
    /// <returns>64 lowercase hex digits: SHA-256 of the canonical JSON of the four.</returns>
    public static string Of(
        int schema,
        string stage,
        JsonNode config,
        IEnumerable<(string Name, string Fingerprint)> inputs
    )
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(inputs);
        var named = new JsonObject();
        foreach (var (name, fingerprint) in inputs)
        {
            named.Add(name, fingerprint); // throws on a name used twice
        }
        return CanonicalJson.Sha256(
            new JsonObject
            {
                ["schema"] = schema,
                ["stage"] = stage,
                ["config"] = config.DeepClone(),
                ["inputs"] = named,
            }
        );
    }
}
