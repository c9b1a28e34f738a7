using System.Collections;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Configuration;

/// <summary>Writes resolved configuration for manifests and fingerprints: keys in camelCase in the order the record
/// declares them, enums as YAML spells them, token counts as plain numbers, what is not set as null. What the other values leave unused (<see cref="UsedWhenAttribute"/>)
/// is not there.</summary>
public static class ConfigurationJson
{
    /// <exception cref="ArgumentException">A number is not finite: JSON has no word for it.</exception>
    public static JsonObject ToJson(object record)
    {
        var json = new JsonObject();
        var used = ConfigProperty
            .Of(record.GetType())
            .Where(property => property.UsedWhen.All(rule => rule.Includes(rule.ValueIn(record))));
        foreach (ConfigProperty property in used)
        {
            json[property.Key] = ToNode(property.Get(record), property.Key);
        }
        return json;
    }

    private static JsonNode? ToNode(object? value, string key) =>
        value switch
        {
            null => null,
            string text => JsonValue.Create(text),
            bool flag => JsonValue.Create(flag),
            int number => JsonValue.Create(number),
            long number => JsonValue.Create(number),
            ulong number => JsonValue.Create(number),
            double number when double.IsFinite(number) => JsonValue.Create(number),
            double number => throw new ArgumentException($"{key} is {number}, which JSON cannot hold.", nameof(value)),
            TokenCount count => JsonValue.Create(count.Value),
            FeatureCount { Value: { } number } => JsonValue.Create(number),
            FeatureCount all => JsonValue.Create(all.ToString()),
            Enum member => JsonValue.Create(Spelling.Of(member)),
            IEnumerable items => new JsonArray([.. items.Cast<object?>().Select(item => ToNode(item, key))]),
            _ => ToJson(value),
        };
}
