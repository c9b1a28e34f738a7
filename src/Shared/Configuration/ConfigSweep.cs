namespace Pipeline.Shared.Configuration;

/// <summary>
/// <c>{architecture: [standard, topk], k: [16, 32], l1: 2, seed: [1, 2]}</c> to a section for every combination. A key that a
/// combination does not use (<see cref="UsedWhenAttribute"/>: k beside standard) is left out of it, and what is the same
/// then is there once: six sections here.
/// </summary>
/// <param name="record">What the sections bind to.</param>
/// <param name="refuse">Adds a fault: path, node found, expected, remedy.</param>
internal sealed class ConfigSweep(Type record, Action<string, ConfigNode, string, string> refuse)
{
    private const int MostSections = 4096;

    private readonly Dictionary<string, ConfigProperty> properties = ConfigProperty.Of(record).ToDictionary(p => p.Key);

    /// <param name="sweep">A section, or a list of them.</param>
    /// <param name="path">Its path.</param>
    public IEnumerable<ConfigMapping> Expand(ConfigNode sweep, string path)
    {
        switch (sweep)
        {
            case ConfigMapping mapping:
                return Combinations(mapping, path);
            case ConfigSequence { Items.Count: > 0 } list when list.Items.All(item => item is ConfigMapping):
                return
                [
                    .. list.Items.SelectMany((item, i) => Combinations((ConfigMapping)item, ConfigPath.Item(path, i))),
                ];
            default:
                refuse(
                    path,
                    sweep,
                    "a section whose values may be lists, or a list of such",
                    "Write one, such as {k: [16, 32]}"
                );
                return [];
        }
    }

    private List<ConfigMapping> Combinations(ConfigMapping sweep, string path)
    {
        List<ConfigMapping> sections = [new(0, sweep.Origin)];
        foreach (var (key, node) in sweep.Values)
        {
            var values = Values(key, node, ConfigPath.Join(path, key));
            if (sections.Count * (long)values.Count > MostSections)
            {
                refuse(path, sweep, $"at most {MostSections} combinations", "Sweep over less");
                return [];
            }
            sections = [.. sections.SelectMany(section => values.Select(value => With(section, key, value)))];
        }
        var used = sections.Select(Used).DistinctBy(Text).ToList();
        foreach (
            var (key, node) in sweep.Values.Where(entry => !used.Any(section => section.Values.ContainsKey(entry.Key)))
        )
        {
            refuse(ConfigPath.Join(path, key), node, "nothing: no combination uses it", "Remove it");
        }
        return used;
    }

    /// <summary>What a key goes through: a list's items, but the items of a list of lists where the value itself is a list.</summary>
    private List<ConfigNode> Values(string key, ConfigNode node, string path)
    {
        bool isListItself =
            properties.TryGetValue(key, out var property)
            && ConfigBinder.ElementType(property.Type) is not null
            && node is ConfigSequence { Items: var items }
            && !items.Any(item => item is ConfigSequence);
        if (node is not ConfigSequence list || isListItself)
        {
            return [node];
        }
        if (list.Items.Count == 0)
        {
            refuse(path, node, "at least one value", "Fill it in or remove the key");
            return [node];
        }
        return list.Items;
    }

    private ConfigMapping Used(ConfigMapping section)
    {
        var used = new ConfigMapping(0, section.Origin);
        foreach (var (key, value) in section.Values)
        {
            if (!properties.TryGetValue(key, out var property) || property.UsedWhen.All(rule => IsMet(rule, section)))
            {
                used.Values.Add(key, value);
            }
        }
        return used;
    }

    /// <summary>A value that cannot be read counts as met: binding it will tell what is wrong.</summary>
    private bool IsMet(UsedWhenAttribute rule, ConfigMapping section) =>
        section.Values.TryGetValue(rule.Key, out var node) && node is ConfigScalar { IsNull: false } scalar
            ? Spelling.ParseEnum(rule.EnumIn(record), scalar.Text) is not { } value || rule.Includes(value)
            : rule.Includes(DefaultOf(rule));

    private Enum? DefaultOf(UsedWhenAttribute rule) => rule.ValueIn(Activator.CreateInstance(record)!);

    private static ConfigMapping With(ConfigMapping section, string key, ConfigNode value)
    {
        var longer = new ConfigMapping(0, section.Origin);
        foreach (var (name, node) in section.Values)
        {
            longer.Values.Add(name, node);
        }
        longer.Values.Add(key, value);
        return longer;
    }

    private static string Text(ConfigNode node) =>
        node switch
        {
            ConfigMapping mapping => string.Join(
                ',',
                mapping.Values.Select(entry => $"{entry.Key}:{Text(entry.Value)}")
            ),
            ConfigSequence list => $"[{string.Join(',', list.Items.Select(Text))}]",
            ConfigScalar scalar => $"{scalar.IsQuoted}{scalar.Text}",
            _ => "",
        };
}
