using System.Text;
using YamlDotNet.Core;
using YamlDotNet.Core.Events;
using YamlDotNet.RepresentationModel;

namespace Pipeline.Shared.Configuration;

/// <summary>
/// Reads a YAML file into a record. Keys are the properties' names in camelCase. Every fault of the file is reported at
/// once, each with its line.
/// </summary>
public static class YamlConfiguration
{
    private const int MaximumBytes = 1 << 20;
    private const int MaximumDepth = 64;

    /// <param name="path">The file.</param>
    /// <param name="overrides">
    /// Settings from the command line, <c>path.to.key=value</c> with list items by number (<c>train.saes.0.k=16</c>),
    /// applied before binding.
    /// </param>
    /// <exception cref="ConfigurationException">Anything wrong with the file or the overrides.</exception>
    public static T Load<T>(string path, IReadOnlyList<string>? overrides = null)
        where T : class
    {
        if (!File.Exists(path))
        {
            throw Refuse(path, "no file", "a YAML file", "Check the path");
        }
        if (new FileInfo(path).Length > MaximumBytes)
        {
            throw Refuse(path, "more than 1 MB", "a configuration file", "Check the path");
        }
        return Parse<T>(File.ReadAllText(path, Encoding.UTF8), path, overrides);
    }

    /// <param name="yaml">The text.</param>
    /// <param name="name">What to call it in messages.</param>
    /// <param name="overrides">As for <see cref="Load"/>.</param>
    public static T Parse<T>(string yaml, string name, IReadOnlyList<string>? overrides = null)
        where T : class
    {
        var root = ReadTree(yaml, name);
        foreach (string setting in overrides ?? [])
        {
            Apply(root, setting, name);
        }
        var binder = new YamlBinder(name);
        var bound = (T?)binder.Bind(typeof(T), root, "");
        if (binder.Faults.Count > 0)
        {
            throw new ConfigurationException(string.Join("\n", binder.Faults.Select(fault => fault.ToString())));
        }
        return bound!;
    }

    private static YamlMappingNode ReadTree(string yaml, string name)
    {
        try
        {
            RefuseBombs(yaml, name);
            var stream = new YamlStream();
            stream.Load(new StringReader(yaml));
            return stream.Documents switch
            {
                [{ RootNode: YamlMappingNode mapping }] => mapping,
                [] => [],
                [_] => throw Refuse(name, "a document that is no mapping", "key: value pairs", "Correct the file"),
                _ => throw Refuse(name, "several documents", "one document", "Remove the --- lines"),
            };
        }
        catch (YamlException e)
        {
            throw new ConfigurationException(
                new Fault($"{name}: line {e.Start.Line}", e.Message, "valid YAML", "Correct the line").ToString(),
                e
            );
        }
    }

    /// <summary>Aliases and deep nesting can make a small file fill memory or the stack; no configuration needs them.</summary>
    private static void RefuseBombs(string yaml, string name)
    {
        var parser = new Parser(new StringReader(yaml));
        int depth = 0;
        while (parser.MoveNext())
        {
            depth += parser.Current!.NestingIncrease;
            if (parser.Current is AnchorAlias alias)
            {
                throw Refuse($"{name}: line {alias.Start.Line}", $"alias *{alias.Value}", "no aliases", "Write it out");
            }
            if (depth > MaximumDepth)
            {
                throw Refuse(
                    $"{name}: line {parser.Current.Start.Line}",
                    $"nesting deeper than {MaximumDepth}",
                    "a configuration",
                    "Correct the file"
                );
            }
        }
    }

    private static void Apply(YamlMappingNode root, string setting, string name)
    {
        int equals = setting.IndexOf('=', StringComparison.Ordinal);
        if (equals <= 0)
        {
            throw Refuse($"--set {setting}", "no key=value", "path.to.key=value", "Write for example train.batch=512");
        }
        string[] path = setting[..equals]
            .Replace("[", ".", StringComparison.Ordinal)
            .Replace("]", "", StringComparison.Ordinal)
            .Split('.');
        var value = ValueNode(setting, setting[(equals + 1)..], name);
        YamlNode node = root;
        for (int i = 0; i < path.Length; i++)
        {
            bool last = i == path.Length - 1;
            node = (node, path[i]) switch
            {
                (YamlMappingNode mapping, var key) => Child(mapping, key, last ? value : null),
                (YamlSequenceNode list, var text)
                    when int.TryParse(text, out int index) && index >= 0 && index < list.Children.Count => last
                    ? list.Children[index] = value
                    : list.Children[index],
                _ => throw Refuse(
                    $"--set {setting}",
                    $"no '{path[i]}' under '{string.Join('.', path[..i])}'",
                    "a key or list item of the file",
                    "Check the path"
                ),
            };
        }
    }

    private static YamlNode Child(YamlMappingNode mapping, string key, YamlNode? value)
    {
        var keyNode = new YamlScalarNode(key);
        if (value is not null)
        {
            mapping.Children[keyNode] = value;
        }
        else if (!mapping.Children.ContainsKey(keyNode))
        {
            mapping.Children[keyNode] = new YamlMappingNode();
        }
        return mapping.Children[keyNode];
    }

    private static YamlNode ValueNode(string setting, string text, string name)
    {
        bool structured = text.StartsWith('[') || text.StartsWith('{');
        return structured
            ? ReadTree("value: " + text, $"{name} (--set {setting})").Children[new YamlScalarNode("value")]
            : new YamlScalarNode(text);
    }

    private static ConfigurationException Refuse(string where, string found, string expected, string remedy) =>
        new(new Fault(where, found, expected, remedy).ToString());
}
