using System.Collections;
using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.Json;
using YamlDotNet.RepresentationModel;

namespace Pipeline.Shared.Configuration;

/// <summary>Binds a YAML tree to records, collecting faults instead of stopping at the first.</summary>
internal sealed class YamlBinder(string file)
{
    private readonly List<Fault> faults = [];

    public IReadOnlyList<Fault> Faults => faults;

    public object? Bind(Type type, YamlNode node, string path)
    {
        type = Nullable.GetUnderlyingType(type) ?? type;
        if (type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>))
        {
            return BindList(type.GetGenericArguments()[0], node, path);
        }
        if (IsScalar(type))
        {
            return BindScalar(type, node, path);
        }
        return BindRecord(type, node, path);
    }

    /// <summary>The spelling of an enum member in a file: lower case, words joined by dashes.</summary>
    public static string SpellingOf(Enum value) => JsonNamingPolicy.KebabCaseLower.ConvertName(value.ToString());

    private static bool IsScalar(Type type) =>
        type.IsPrimitive || type.IsEnum || type == typeof(string) || type == typeof(TokenCount);

    private object? BindRecord(Type type, YamlNode node, string path)
    {
        if (node is not YamlMappingNode mapping)
        {
            Add(node, path, Describe(node), "key: value pairs", "Write the settings under this key");
            return null;
        }
        object record = Activator.CreateInstance(type)!;
        var properties = type.GetProperties(BindingFlags.Public | BindingFlags.Instance)
            .Where(property => property.SetMethod is not null)
            .ToDictionary(KeyOf, StringComparer.Ordinal);
        foreach (var (keyNode, value) in mapping.Children)
        {
            string key = keyNode is YamlScalarNode scalar ? scalar.Value ?? "" : "";
            if (properties.Remove(key, out var property))
            {
                SetProperty(record, property, value, Join(path, key));
            }
            else
            {
                string nearest = Nearest(key, type);
                Add(keyNode, Join(path, key), "an unknown key", "one of " + Keys(type), $"Did you mean '{nearest}'?");
            }
        }
        foreach (var (key, property) in properties)
        {
            if (property.GetCustomAttribute<RequiredMemberAttribute>() is not null)
            {
                string remedy = property.GetCustomAttribute<RemedyAttribute>()?.Remedy ?? $"Add '{key}:' to the file";
                Add(node, Join(path, key), "nothing", "a value (this key has no default)", remedy);
            }
        }
        if (faults.Count == 0 && record is IValidated validated)
        {
            faults.AddRange(validated.Validate(path.Length == 0 ? file : $"{file}: {path}"));
        }
        return record;
    }

    private void SetProperty(object record, PropertyInfo property, YamlNode node, string path)
    {
        if (Bind(property.PropertyType, node, path) is not { } value)
        {
            return;
        }
        double? number = value switch
        {
            TokenCount count => count.Value,
            int or long or ulong or double => Convert.ToDouble(value, CultureInfo.InvariantCulture),
            _ => null,
        };
        if (property.GetCustomAttribute<AtLeastAttribute>() is { } least && !(number >= least.Minimum))
        {
            Add(node, path, Describe(node), $"at least {Invariant(least.Minimum)}", "Correct the value");
        }
        if (
            property.GetCustomAttribute<BetweenAttribute>() is { } range
            && !(number >= range.Minimum && number <= range.Maximum)
        )
        {
            string expected = $"a number from {Invariant(range.Minimum)} to {Invariant(range.Maximum)}";
            Add(node, path, Describe(node), expected, "Correct the value");
        }
        property.SetValue(record, value);
    }

    private object? BindList(Type item, YamlNode node, string path)
    {
        if (node is not YamlSequenceNode sequence)
        {
            Add(node, path, Describe(node), "a list", "Write [a, b] or one '- item' a line");
            return null;
        }
        var list = (IList)Activator.CreateInstance(typeof(List<>).MakeGenericType(item))!;
        foreach (var (index, child) in sequence.Children.Index())
        {
            if (Bind(item, child, $"{path}[{index}]") is { } value)
            {
                list.Add(value);
            }
        }
        return list;
    }

    private object? BindScalar(Type type, YamlNode node, string path)
    {
        if (node is not YamlScalarNode { Value: { } text })
        {
            Add(node, path, Describe(node), Expected(type), "Write a single value");
            return null;
        }
        var invariant = CultureInfo.InvariantCulture;
        object? value =
            type == typeof(string) ? text
            : type == typeof(bool) ? (text is "true" or "false" ? text == "true" : null)
            : type == typeof(int) ? (int.TryParse(text, NumberStyles.AllowLeadingSign, invariant, out int i) ? i : null)
            : type == typeof(long)
                ? (long.TryParse(text, NumberStyles.AllowLeadingSign, invariant, out long l) ? l : null)
            : type == typeof(ulong) ? (ulong.TryParse(text, NumberStyles.None, invariant, out ulong u) ? u : null)
            : type == typeof(double)
                ? (double.TryParse(text, NumberStyles.Float, invariant, out double d) && double.IsFinite(d) ? d : null)
            : type == typeof(TokenCount) ? (TokenCount.TryParse(text, out var count) ? count : null)
            : Enum.GetValues(type).Cast<Enum>().FirstOrDefault(member => SpellingOf(member) == text);
        if (value is null)
        {
            Add(node, path, $"'{text}'", Expected(type), "Correct the value");
        }
        return value;
    }

    private static string Expected(Type type) =>
        type == typeof(string) ? "text"
        : type == typeof(bool) ? "true or false"
        : type == typeof(int) ? "an integer"
        : type == typeof(long) || type == typeof(ulong) ? "a large integer"
        : type == typeof(double) ? "a number"
        : type == typeof(TokenCount) ? "a number of tokens such as 1500, 200k or 2M"
        : "one of " + string.Join(", ", Enum.GetValues(type).Cast<Enum>().Select(SpellingOf));

    private static string KeyOf(PropertyInfo property) => JsonNamingPolicy.CamelCase.ConvertName(property.Name);

    private static IEnumerable<string> AllKeys(Type type) =>
        type.GetProperties().Where(property => property.SetMethod is not null).Select(KeyOf);

    private static string Keys(Type type) => string.Join(", ", AllKeys(type));

    private static string Nearest(string key, Type type) => AllKeys(type).MinBy(known => Distance(key, known))!;

    /// <summary>Levenshtein distance.</summary>
    private static int Distance(string left, string right)
    {
        int[] row = [.. Enumerable.Range(0, right.Length + 1)];
        for (int i = 1; i <= left.Length; i++)
        {
            int diagonal = row[0];
            row[0] = i;
            for (int j = 1; j <= right.Length; j++)
            {
                int substituted = diagonal + (left[i - 1] == right[j - 1] ? 0 : 1);
                diagonal = row[j];
                row[j] = Math.Min(substituted, 1 + Math.Min(row[j], row[j - 1]));
            }
        }
        return row[^1];
    }

    private static string Describe(YamlNode node) =>
        node switch
        {
            YamlScalarNode scalar => $"'{scalar.Value}'",
            YamlSequenceNode => "a list",
            _ => "key: value pairs",
        };

    private static string Invariant(double value) => value.ToString(CultureInfo.InvariantCulture);

    private static string Join(string path, string key) => path.Length == 0 ? key : $"{path}.{key}";

    private void Add(YamlNode node, string path, string found, string expected, string remedy)
    {
        string line = node.Start.Line > 0 ? $" (line {node.Start.Line})" : "";
        faults.Add(new Fault($"{file}: {path}{line}", found, expected, remedy.TrimEnd('.', '?')));
    }
}
