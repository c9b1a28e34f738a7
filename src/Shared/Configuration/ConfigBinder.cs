using System.Globalization;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Configuration;

/// <summary>Fills records from a tree by reflection and adds every fault it meets, going on past each.</summary>
internal sealed partial class ConfigBinder(FaultList faults, string source)
{
    // Longer digits overflow every type; parsing them would only take time.
    private const int LongestNumber = 400;

    private readonly Dictionary<string, string> origins = [];

    /// <summary>A record of the type; only meaningful when no fault was added.</summary>
    public object BindRecord(Type type, ConfigMapping mapping, string path)
    {
        int faultsBefore = faults.Count;
        object record = Activator.CreateInstance(type)!;
        IReadOnlyList<ConfigProperty> properties = ConfigProperty.Of(type);
        foreach (ConfigProperty property in properties.Where(property => property.SweepKey is not null))
        {
            ExpandSweep(property, mapping, path);
        }
        foreach (ConfigProperty property in properties)
        {
            BindProperty(record, property, mapping, path);
        }
        RefuseUnknownKeys(mapping, properties, path);
        if (faults.Count == faultsBefore)
        {
            RefuseUnusedKeys(record, mapping, properties, path);
        }
        // A record that lacks values would make its own checks stumble or tell untruths.
        if (faults.Count == faultsBefore && record is IValidated validated)
        {
            faults.AddRange(validated.Validate(path).Select(fault => fault with { Where = Located(fault.Where) }));
        }
        return record;
    }

    private void BindProperty(object record, ConfigProperty property, ConfigMapping mapping, string path)
    {
        string propertyPath = ConfigPath.Join(path, property.Key);
        if (!mapping.Values.TryGetValue(property.Key, out ConfigNode? node))
        {
            if (property.IsRequired)
            {
                string remedy = property.MissingRemedy ?? $"Add the key {property.Key}";
                Refuse(propertyPath, "nothing", Expected(property.Type), remedy);
            }
            return;
        }
        origins[propertyPath] = node.Origin;
        if (property.AllowsNull && node is ConfigScalar { IsNull: true })
        {
            property.Set(record, null);
        }
        else if (Bind(property.Type, node, propertyPath) is { } value)
        {
            property.Set(record, value);
            foreach (ValueRuleAttribute rule in property.Rules.Where(rule => !rule.Holds(value)))
            {
                Refuse(propertyPath, node.Described, rule.Expected, "Change the value");
            }
        }
    }

    private void ExpandSweep(ConfigProperty property, ConfigMapping mapping, string path)
    {
        if (mapping.Values.Remove(property.SweepKey!, out ConfigNode? sweep))
        {
            string sweepPath = ConfigPath.Join(path, property.SweepKey!);
            origins[sweepPath] = sweep.Origin;
            var sections = new ConfigSweep(
                ElementType(property.Type)!,
                (at, node, expected, remedy) =>
                {
                    origins[at] = node.Origin;
                    Refuse(at, node.Described, expected, remedy);
                }
            ).Expand(sweep, sweepPath);
            mapping.Values.TryAdd(property.Key, new ConfigSequence(0, sweep.Origin));
            (mapping.Values[property.Key] as ConfigSequence)?.Items.AddRange(sections);
        }
    }

    /// <summary>A key that was given beside another's value with which it means nothing.</summary>
    private void RefuseUnusedKeys(
        object record,
        ConfigMapping mapping,
        IReadOnlyList<ConfigProperty> properties,
        string path
    )
    {
        foreach (ConfigProperty property in properties)
        {
            if (
                mapping.Values.TryGetValue(property.Key, out ConfigNode? node)
                && node is not ConfigScalar { IsNull: true }
                && property.UsedWhen.FirstOrDefault(used => !used.Includes(used.ValueIn(record))) is { } unmet
            )
            {
                string other = unmet.ValueIn(record) is { } value
                    ? $"{unmet.Key} {Spelling.Of(value)}"
                    : $"no {unmet.Key}";
                Refuse(
                    ConfigPath.Join(path, property.Key),
                    node.Described,
                    $"nothing: {other} does not use it",
                    "Remove it"
                );
            }
        }
    }

    private void RefuseUnknownKeys(ConfigMapping mapping, IReadOnlyList<ConfigProperty> properties, string path)
    {
        string[] known =
        [
            .. properties.Select(property => property.Key),
            .. properties.Select(property => property.SweepKey).OfType<string>(),
        ];
        foreach ((string key, ConfigNode node) in mapping.Values)
        {
            if (!known.Contains(key))
            {
                string shown = Spelling.Shown(key);
                string keyPath = ConfigPath.Join(path, shown);
                origins[keyPath] = node.Origin;
                Refuse(
                    keyPath,
                    $"the unknown key '{shown}'",
                    $"one of {string.Join(", ", known)}",
                    Spelling.Nearest(key, known) is { } nearest
                        ? $"Did you mean '{nearest}'? Rename or remove it"
                        : "Remove it"
                );
            }
        }
    }

    /// <summary>The value a node stands for, or null after adding the fault that says why there is none.</summary>
    private object? Bind(Type type, ConfigNode node, string path)
    {
        if (node is ConfigRefused)
        {
            return null;
        }
        if (ElementType(type) is { } elementType)
        {
            return BindList(elementType, node, path);
        }
        if (IsRecord(type))
        {
            return BindSection(type, node, path);
        }
        if (node is not ConfigScalar { IsNull: false } scalar)
        {
            Refuse(path, node.Described, Expected(type), "Write a single value");
            return null;
        }
        return type == typeof(string) ? BindText(scalar, path)
            : type == typeof(bool) ? BindBool(scalar, path)
            : type == typeof(double) ? BindDouble(scalar, path)
            : type == typeof(TokenCount) ? BindTokenCount(scalar, path)
            : type == typeof(FeatureCount) ? BindFeatureCount(scalar, path)
            : type.IsEnum ? BindEnum(type, scalar, path)
            : type == typeof(int) ? BindWhole(scalar, path, (int.MinValue, int.MaxValue), whole => (int)whole)
            : type == typeof(long) ? BindWhole(scalar, path, (long.MinValue, long.MaxValue), whole => (long)whole)
            : type == typeof(ulong) ? BindWhole(scalar, path, (ulong.MinValue, ulong.MaxValue), whole => (ulong)whole)
            : throw new NotSupportedException($"No configuration value binds to {type}.");
    }

    private object? BindSection(Type type, ConfigNode node, string path)
    {
        switch (node)
        {
            case ConfigMapping mapping:
                return BindRecord(type, mapping, path);
            // "evaluate:" with nothing below it is a section of defaults.
            case ConfigScalar { IsNull: true }:
                return BindRecord(type, new ConfigMapping(0, node.Origin), path);
            default:
                Refuse(path, node.Described, Expected(type), "Write its keys below it, indented");
                return null;
        }
    }

    private Array? BindList(Type elementType, ConfigNode node, string path)
    {
        if (node is not ConfigSequence sequence)
        {
            string remedy = node is ConfigScalar { IsNull: false } scalar
                ? $"Put it in brackets: [{Spelling.Shown(scalar.Text)}]"
                : "Begin each item with '- '";
            Refuse(path, node is ConfigScalar ? node.Described : $"{node.Described}, not in a list", "a list", remedy);
            return null;
        }
        var items = Array.CreateInstance(elementType, sequence.Items.Count);
        bool isComplete = true;
        for (int i = 0; i < items.Length; i++)
        {
            string itemPath = ConfigPath.Item(path, i);
            origins[itemPath] = sequence.Items[i].Origin;
            object? item = null;
            // An item with nothing in it is a slip of the pen even where a section could be all defaults.
            if (sequence.Items[i] is ConfigScalar { IsNull: true })
            {
                Refuse(itemPath, "nothing", Expected(elementType), "Fill the list item or remove it");
            }
            else
            {
                item = Bind(elementType, sequence.Items[i], itemPath);
            }
            isComplete &= item is not null;
            items.SetValue(item, i);
        }
        return isComplete ? items : null;
    }

    private string? BindText(ConfigScalar scalar, string path)
    {
        if (!string.IsNullOrWhiteSpace(scalar.Text))
        {
            return scalar.Text;
        }
        Refuse(path, "blank text", "text", "Fill it in or remove the key");
        return null;
    }

    private bool? BindBool(ConfigScalar scalar, string path)
    {
        switch (scalar)
        {
            case { IsQuoted: false, Text: "true" or "True" or "TRUE" }:
                return true;
            case { IsQuoted: false, Text: "false" or "False" or "FALSE" }:
                return false;
            default:
                Refuse(path, scalar.Described, Expected(typeof(bool)), "Write true or false, without quotes");
                return null;
        }
    }

    private double? BindDouble(ConfigScalar scalar, string path)
    {
        if (scalar.IsQuoted || scalar.Text.Length > LongestNumber || !RealNumber().IsMatch(scalar.Text))
        {
            Refuse(
                path,
                scalar.Described,
                Expected(typeof(double)),
                "Write digits, such as 0.05 or 1e-3, without quotes"
            );
            return null;
        }
        double number = double.Parse(Digits(scalar), CultureInfo.InvariantCulture);
        if (double.IsFinite(number))
        {
            return number;
        }
        Refuse(path, scalar.Described, "a number that a double can hold", "Write a number below 1e308");
        return null;
    }

    private object? BindWhole(
        ConfigScalar scalar,
        string path,
        (decimal Minimum, decimal Maximum) range,
        Func<decimal, object> convert
    )
    {
        if (scalar.IsQuoted || !WholeNumber().IsMatch(scalar.Text))
        {
            Refuse(
                path,
                scalar.Described,
                Expected(typeof(long)),
                "Write it out in digits, without suffix, fraction or quotes"
            );
            return null;
        }
        if (
            decimal.TryParse(
                Digits(scalar),
                NumberStyles.AllowLeadingSign,
                CultureInfo.InvariantCulture,
                out decimal whole
            )
            && whole >= range.Minimum
            && whole <= range.Maximum
        )
        {
            return convert(whole);
        }
        string expected = string.Create(
            CultureInfo.InvariantCulture,
            $"a whole number from {range.Minimum} to {range.Maximum}"
        );
        Refuse(path, scalar.Described, expected, "Change the value");
        return null;
    }

    private TokenCount? BindTokenCount(ConfigScalar scalar, string path)
    {
        if (TokenCount.TryParse(scalar.Text, out TokenCount count))
        {
            return count;
        }
        Refuse(
            path,
            scalar.Described,
            Expected(typeof(TokenCount)),
            "Write a whole number of tokens below 9.2e18, in full or with one of the suffixes k, M and G"
        );
        return null;
    }

    private FeatureCount? BindFeatureCount(ConfigScalar scalar, string path)
    {
        if (FeatureCount.TryParse(scalar.Text, out FeatureCount count))
        {
            return count;
        }
        Refuse(path, scalar.Described, Expected(typeof(FeatureCount)), "Write a whole number, or all");
        return null;
    }

    private Enum? BindEnum(Type type, ConfigScalar scalar, string path)
    {
        if (Spelling.ParseEnum(type, scalar.Text) is { } value)
        {
            return value;
        }
        Refuse(path, scalar.Described, Expected(type), "Choose one of those");
        return null;
    }

    private void Refuse(string path, string found, string expected, string remedy) =>
        faults.Add(new Fault(Located(path), found, expected, remedy));

    /// <summary>The path with its file and, from itself or the nearest section above it, its line.</summary>
    private string Located(string path)
    {
        for (string at = path; at.Length > 0; at = ConfigPath.Parent(at))
        {
            if (origins.TryGetValue(at, out string? origin))
            {
                return $"{source}: {path} ({origin})";
            }
        }
        return $"{source}: {path}";
    }

    private static string Expected(Type type) =>
        type == typeof(string) ? "text"
        : type == typeof(bool) ? "true or false"
        : type == typeof(double) ? "a number"
        : type == typeof(TokenCount) ? "a count of tokens such as 200k, 2M or 1.5G"
        : type == typeof(FeatureCount) ? "a number of latents, 0 or more, or all"
        : type.IsEnum ? $"one of {Spelling.AllOf(type)}"
        : ElementType(type) is not null ? "a list"
        : !IsRecord(type) ? "a whole number"
        : $"a section with {Keys(type)}";

    private static string Keys(Type record)
    {
        string required = string.Join(", ", ConfigProperty.Of(record).Where(p => p.IsRequired).Select(p => p.Key));
        return required.Length == 0 ? "keys and values" : $"the keys {required}";
    }

    internal static Type? ElementType(Type type) =>
        type.IsGenericType && type.GetGenericTypeDefinition() == typeof(IReadOnlyList<>)
            ? type.GetGenericArguments()[0]
            : null;

    private static bool IsRecord(Type type) => type.IsClass && type != typeof(string);

    private static string Digits(ConfigScalar scalar) => scalar.Text.Replace("_", "", StringComparison.Ordinal);

    [GeneratedRegex(@"^[-+]?[0-9]+(_[0-9]+)*\z", RegexOptions.NonBacktracking)]
    private static partial Regex WholeNumber();

    [GeneratedRegex(@"^[-+]?([0-9]+(_[0-9]+)*(\.[0-9]*)?|\.[0-9]+)([eE][-+]?[0-9]+)?\z", RegexOptions.NonBacktracking)]
    private static partial Regex RealNumber();
}
