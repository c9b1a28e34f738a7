using System.Collections;
using System.Reflection;
using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Configuration;

/// <summary>A configuration record as JSON, spelled as in a YAML file: what manifests and fingerprints hold.</summary>
public static class ConfigurationJson
{
    public static JsonObject Of(object record) =>
        new(
            record
                .GetType()
                .GetProperties(BindingFlags.Public | BindingFlags.Instance)
                .Where(property => property.SetMethod is not null)
                .Select(property =>
                    KeyValuePair.Create(
                        JsonNamingPolicy.CamelCase.ConvertName(property.Name),
                        Value(property.GetValue(record))
                    )
                )
        );

    private static JsonNode? Value(object? value) =>
        value switch
        {
            null => null,
            string text => text,
            bool flag => flag,
            int number => number,
            long number => number,
            ulong number => number,
            double number => number,
            TokenCount count => count.Value,
            Enum member => YamlBinder.SpellingOf(member),
            IEnumerable list => new JsonArray([.. list.Cast<object?>().Select(Value)]),
            _ => Of(value),
        };
}
