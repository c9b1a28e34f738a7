using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>Applies <c>--set path.to.key=value</c> to a tree: creates the sections a path runs through, replaces what
/// stands at its end. A list index is written <c>saes[0]</c> or <c>saes.0</c>; the index after the last
/// appends.</summary>
internal sealed class ConfigOverrides(FaultList faults, string source)
{
    private const int LongestPath = 64;

    public void Apply(ConfigMapping root, IReadOnlyList<string> overrides)
    {
        foreach (string text in overrides)
        {
            Apply(root, text);
        }
    }

    private void Apply(ConfigMapping root, string text)
    {
        string given = $"--set {Spelling.Shown(text)}";
        int equals = text.IndexOf('=', StringComparison.Ordinal);
        string[] segments = equals < 0 ? [] : Segments(text[..equals]);
        if (segments.Length is 0 or > LongestPath || segments.Contains(""))
        {
            faults.Add(
                new Fault(
                    given,
                    $"'{Spelling.Shown(text)}'",
                    "path.to.key=value, such as train.batch=512 or train.saes[0].k=16",
                    "Write the option so"
                )
            );
            return;
        }
        ConfigNode value = ConfigTreeReader.Read(text[(equals + 1)..], faults, source, given);
        ConfigNode at = root;
        string path = "";
        for (int i = 0; i < segments.Length; i++)
        {
            bool isLast = i == segments.Length - 1;
            // A path runs on through what does not exist yet: the next segment tells a list from a section.
            Func<ConfigNode> next =
                isLast ? () => value
                : IsIndex(segments[i + 1]) ? () => new ConfigSequence(0, given)
                : () => new ConfigMapping(0, given);
            if (Step(at, segments[i], path, isLast, next, given) is not { } below)
            {
                return;
            }
            path = at is ConfigSequence ? $"{path}[{segments[i]}]" : ConfigPath.Join(path, segments[i]);
            at = below;
        }
    }

    private ConfigNode? Step(
        ConfigNode at,
        string segment,
        string path,
        bool isLast,
        Func<ConfigNode> create,
        string given
    )
    {
        switch (at)
        {
            case ConfigMapping mapping:
                return mapping.Values.TryGetValue(segment, out ConfigNode? value) && !isLast && !IsNothing(value)
                    ? value
                    : mapping.Values[segment] = create();
            case ConfigSequence { Items: var items }
                when int.TryParse(segment, NumberStyles.None, CultureInfo.InvariantCulture, out int index)
                    && index <= items.Count:
                if (index == items.Count)
                {
                    items.Add(create());
                }
                else if (isLast || IsNothing(items[index]))
                {
                    items[index] = create();
                }
                return items[index];
            case ConfigSequence { Items.Count: var count }:
                Refuse($"a list of {count}", $"an index from 0 to {count}, not '{Spelling.Shown(segment)}'");
                return null;
            default:
                Refuse(at.Described, $"a section with the key '{Spelling.Shown(segment)}'");
                return null;
        }

        void Refuse(string found, string expected) =>
            faults.Add(
                new Fault($"{source}: {Spelling.Shown(path)} ({given})", found, expected, "Correct the option's path")
            );
    }

    private static bool IsNothing(ConfigNode node) => node is ConfigScalar { IsNull: true };

    private static bool IsIndex(string segment) => segment.All(char.IsAsciiDigit);

    /// <summary><c>train.saes[0].k</c> to its four segments; an empty segment marks what cannot be read.</summary>
    private static string[] Segments(string path)
    {
        var segments = new List<string>();
        foreach (string part in path.Split('.'))
        {
            string[] pieces = part.Split('[');
            segments.Add(pieces[0]);
            foreach (string piece in pieces.Skip(1))
            {
                segments.Add(piece.EndsWith(']') && IsIndex(piece[..^1]) ? piece[..^1] : "");
            }
        }
        return [.. segments];
    }
}
