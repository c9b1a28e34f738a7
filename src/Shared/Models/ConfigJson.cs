using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Models;

/// <summary>A config.json read field by field; every complaint names the file, the field and what was expected.</summary>
public sealed class ConfigJson
{
    private readonly JsonElement root;

    private ConfigJson(string path, JsonElement root)
    {
        Path = path;
        this.root = root;
    }

    public string Path { get; }

    public static ConfigJson Read(string path)
    {
        if (!File.Exists(path))
        {
            throw new ConfigurationException(
                new Fault(path, "no file", "a Hugging Face config.json", "Check the model folder").ToString()
            );
        }
        const int MaximumBytes = 16 * 1024 * 1024;
        if (ForeignFile.LengthOf(path) > MaximumBytes)
        {
            throw new ConfigurationException(
                new Fault(path, "a file of more than 16 MB", "a Hugging Face config.json", "Check the file").ToString()
            );
        }
        try
        {
            using var document = StrictJson.Parse(File.ReadAllBytes(path));
            if (document.RootElement.ValueKind != JsonValueKind.Object)
            {
                throw new JsonException("the top level is not an object");
            }
            return new ConfigJson(path, document.RootElement.Clone());
        }
        catch (JsonException e)
        {
            throw new ConfigurationException(
                new Fault(path, e.Message, "valid JSON", "Download or write the file again").ToString(),
                e
            );
        }
    }

    /// <summary>The same of a YAML file, for models whose settings are written so.</summary>
    public static ConfigJson ReadYaml(string path)
    {
        var json = (JsonObject)ToJson(YamlConfiguration.ReadForeign(path))!;
        using var document = JsonDocument.Parse(json.ToJsonString());
        return new ConfigJson(path, document.RootElement.Clone());
    }

    public IEnumerable<string> Keys => root.EnumerateObject().Select(property => property.Name);

    /// <summary>Whether the key is there, be it with null: where null means something else than absence.</summary>
    public bool Names(string key) => root.TryGetProperty(key, out _);

    public bool Has(string key) => root.TryGetProperty(key, out var value) && value.ValueKind != JsonValueKind.Null;

    /// <summary>The object under <paramref name="key"/>, or null when it is absent or null.</summary>
    public ConfigJson? Section(string key)
    {
        if (!Has(key))
        {
            return null;
        }
        var value = root.GetProperty(key);
        return value.ValueKind == JsonValueKind.Object
            ? new ConfigJson($"{Path}: {key}", value)
            : throw Wrong(key, value, "an object");
    }

    public string Text(string key, string? otherwise = null) =>
        Get(key, "a string", otherwise, value => value.ValueKind == JsonValueKind.String ? value.GetString() : null);

    public int Count(string key, int? otherwise = null) =>
        Get(
            key,
            "an integer from 0 to 2147483647",
            otherwise,
            value =>
                value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) && number >= 0
                    ? number
                    : (int?)null
        );

    /// <summary>An integer of at least 1.</summary>
    public int Size(string key, int? otherwise = null)
    {
        int size = Count(key, otherwise);
        return size >= 1 ? size : throw Wrong(key, root.GetProperty(key), "an integer of at least 1");
    }

    /// <summary>An id, the first of a list of ids, or null. 0 is an id.</summary>
    public int? OptionalId(string key)
    {
        if (!Has(key))
        {
            return null;
        }
        var value = root.GetProperty(key);
        if (value.ValueKind == JsonValueKind.Array && value.GetArrayLength() > 0)
        {
            value = value[0];
        }
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int id)
            ? id
            : throw Wrong(key, value, "a token id");
    }

    /// <summary>A list of integers from 0, or null where the key is absent.</summary>
    public IReadOnlyList<int>? Counts(string key)
    {
        if (!Has(key))
        {
            return null;
        }
        var value = root.GetProperty(key);
        bool counts =
            value.ValueKind == JsonValueKind.Array
            && value
                .EnumerateArray()
                .All(e => e.ValueKind == JsonValueKind.Number && e.TryGetInt32(out int number) && number >= 0);
        return counts
            ? [.. value.EnumerateArray().Select(e => e.GetInt32())]
            : throw Wrong(key, value, "a list of integers from 0");
    }

    /// <summary>A list of strings, or null where the key is absent.</summary>
    public IReadOnlyList<string>? Texts(string key)
    {
        if (!Has(key))
        {
            return null;
        }
        var value = root.GetProperty(key);
        return
            value.ValueKind == JsonValueKind.Array
            && value.EnumerateArray().All(e => e.ValueKind == JsonValueKind.String)
            ? [.. value.EnumerateArray().Select(e => e.GetString()!)]
            : throw Wrong(key, value, "a list of strings");
    }

    public double Number(string key, double? otherwise = null) =>
        Get(
            key,
            "a number",
            otherwise,
            value => value.ValueKind == JsonValueKind.Number && value.TryGetDouble(out double n) ? n : (double?)null
        );

    public bool Flag(string key, bool otherwise) =>
        Get(
            key,
            "true or false",
            (bool?)otherwise,
            value => value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : (bool?)null
        );

    public ConfigurationException Wrong(string key, string found, string expected, string remedy) =>
        new(new Fault($"{Path}: {key}", found, expected, remedy).ToString());

    private T Get<T>(string key, string expected, T? otherwise, Func<JsonElement, T?> read)
        where T : struct =>
        Has(key)
            ? read(root.GetProperty(key)) ?? throw Wrong(key, root.GetProperty(key), expected)
            : otherwise ?? throw Missing(key, expected);

    private string Get(string key, string expected, string? otherwise, Func<JsonElement, string?> read) =>
        Has(key)
            ? read(root.GetProperty(key)) ?? throw Wrong(key, root.GetProperty(key), expected)
            : otherwise ?? throw Missing(key, expected);

    private static JsonNode? ToJson(ConfigNode node) =>
        node switch
        {
            ConfigMapping mapping => new JsonObject(
                mapping.Values.Select(pair => KeyValuePair.Create(pair.Key, ToJson(pair.Value)))
            ),
            ConfigSequence sequence => new JsonArray([.. sequence.Items.Select(ToJson)]),
            ConfigScalar { IsNull: true } => null,
            ConfigScalar { IsQuoted: false, Text: "true" or "false" } scalar => scalar.Text == "true",
            ConfigScalar { IsQuoted: false } scalar
                when long.TryParse(scalar.Text, CultureInfo.InvariantCulture, out long whole) => whole,
            ConfigScalar { IsQuoted: false } scalar
                when double.TryParse(scalar.Text, CultureInfo.InvariantCulture, out double number)
                    && double.IsFinite(number) => number,
            ConfigScalar scalar => scalar.Text,
            _ => null,
        };

    private ConfigurationException Missing(string key, string expected) =>
        Wrong(key, "nothing", expected, "The file is not complete: take the model's original config.json");

    private ConfigurationException Wrong(string key, JsonElement found, string expected)
    {
        string text = found.GetRawText();
        return Wrong(key, text.Length > 60 ? text[..60] + "..." : text, expected, "Correct the file");
    }
}
