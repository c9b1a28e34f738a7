using System.Globalization;
using System.Text.Json;
using Pipeline.Shared;

namespace Pipeline.Evaluate.Report;

/// <summary>A JSON value that knows its file and path, so that every fault can name both.</summary>
internal readonly record struct JsonNodeReader(string File, string Path, string Remedy, JsonElement Element)
{
    /// <summary>A JSON file of a run.</summary>
    public static JsonNodeReader Open(string runFolder, string file, string remedy) =>
        Parse(file, remedy, System.IO.File.ReadAllText(Require(runFolder, file, remedy)));

    /// <summary>An object from its text.</summary>
    /// <param name="where">The file, and the place in it.</param>
    /// <param name="remedy">What to do about a fault.</param>
    /// <param name="json">The text.</param>
    public static JsonNodeReader Parse(string where, string remedy, string json)
    {
        try
        {
            using var document = JsonDocument.Parse(json);
            return new JsonNodeReader(where, "", remedy, document.RootElement.Clone()).AsObject();
        }
        catch (JsonException e)
        {
            string found = json.Length == 0 ? "an empty file" : $"text that is not JSON ({e.Message.TrimEnd('.')})";
            throw new CorruptArtifactException(new Fault(where, found, "a JSON object", remedy).ToString(), e);
        }
    }

    /// <summary>The path of a file that must be there.</summary>
    public static string Require(string runFolder, string file, string remedy)
    {
        string path = System.IO.Path.Combine(runFolder, file);
        return System.IO.File.Exists(path)
            ? path
            : throw new CorruptArtifactException(
                new Fault(file, "no such file", $"it in {runFolder}", remedy).ToString()
            );
    }

    public bool IsNull => Element.ValueKind == JsonValueKind.Null;

    private string Where => Path.Length == 0 ? File : $"{File}: {Path}";

    public JsonNodeReader Required(string key) =>
        Optional(key) ?? throw Corrupt($"no key '{key}'", $"an object with '{key}'");

    /// <summary>Null where the key is absent or holds null.</summary>
    public JsonNodeReader? Optional(string key)
    {
        JsonNodeReader? present = Present(key);
        return present is { Element.ValueKind: JsonValueKind.Null } ? null : present;
    }

    /// <summary>A number that must be stated, where <c>null</c>, <c>"NaN"</c> and infinities state "undefined".</summary>
    public double? RequiredOrUndefined(string key)
    {
        JsonNodeReader node = Present(key) ?? throw Corrupt($"no key '{key}'", $"an object with '{key}'");
        return node.Element.ValueKind == JsonValueKind.Null ? null : Finite(node.AsDouble());
    }

    public double? OptionalDouble(string key) => Optional(key) is { } node ? Finite(node.AsDouble()) : null;

    public string AsString() =>
        Element.ValueKind == JsonValueKind.String ? Element.GetString()! : throw Corrupt(Describe(), "a string");

    /// <summary>A string as it is; anything else as compact JSON.</summary>
    public string AsText() => Element.ValueKind == JsonValueKind.String ? Element.GetString()! : Element.GetRawText();

    public long AsInt64() =>
        Element.ValueKind == JsonValueKind.Number && Element.TryGetInt64(out long value)
            ? value
            : throw Corrupt(Describe(), "a whole number");

    public int AsInt32() =>
        AsInt64() is >= int.MinValue and <= int.MaxValue and var value
            ? (int)value
            : throw Corrupt(Describe(), "a 32-bit whole number");

    public double AsDouble() =>
        Element.ValueKind switch
        {
            JsonValueKind.Number => Element.GetDouble(),
            JsonValueKind.String when Element.GetString() is "NaN" or "Infinity" or "-Infinity" => double.NaN,
            _ => throw Corrupt(Describe(), "a number"),
        };

    public IReadOnlyList<JsonNodeReader> AsArray()
    {
        if (Element.ValueKind != JsonValueKind.Array)
        {
            throw Corrupt(Describe(), "a list");
        }
        JsonNodeReader self = this;
        return
        [
            .. Element
                .EnumerateArray()
                .Select(
                    (item, i) =>
                        self with
                        {
                            Path = string.Create(CultureInfo.InvariantCulture, $"{self.Path}[{i}]"),
                            Element = item,
                        }
                ),
        ];
    }

    public IReadOnlyList<KeyValuePair<string, string>> AsTextEntries()
    {
        JsonNodeReader self = AsObject();
        return
        [
            .. Element
                .EnumerateObject()
                .Select(p => KeyValuePair.Create(p.Name, (self with { Element = p.Value }).AsText())),
        ];
    }

    public JsonNodeReader AsObject() =>
        Element.ValueKind == JsonValueKind.Object ? this : throw Corrupt(Describe(), "an object");

    public CorruptArtifactException Corrupt(string found, string expected) =>
        new(new Fault(Where, found, expected, Remedy).ToString());

    private JsonNodeReader? Present(string key) =>
        AsObject().Element.TryGetProperty(key, out JsonElement value)
            ? this with
            {
                Path = Path.Length == 0 ? key : $"{Path}.{key}",
                Element = value,
            }
            : null;

    private static double? Finite(double value) => double.IsFinite(value) ? value : null;

    private string Describe()
    {
        string raw = Element.GetRawText();
        return raw.Length <= 40 ? raw : raw[..40] + "...";
    }
}
