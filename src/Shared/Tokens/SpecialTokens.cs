using System.Text.Json;
using Pipeline.Shared.Models;

namespace Pipeline.Shared.Tokens;

/// <summary>
/// BOS and EOS of a model folder: by name from tokenizer_config.json (<see cref="Bos"/>, <see cref="Eos"/>), by id from
/// config.json. Names win, since they are the tokenizer's own.
/// </summary>
internal sealed record SpecialTokens(string? Bos, string? Eos, int? BosId, int? EosId)
{
    public static SpecialTokens Read(string folder)
    {
        var (bos, eos) = ReadNames(Path.Combine(folder, "tokenizer_config.json"));
        string config = Path.Combine(folder, "config.json");
        if (!File.Exists(config))
        {
            return new SpecialTokens(bos, eos, null, null);
        }
        var json = ConfigJson.Read(config);
        return new SpecialTokens(bos, eos, json.OptionalId("bos_token_id"), json.OptionalId("eos_token_id"));
    }

    private static (string? Bos, string? Eos) ReadNames(string path)
    {
        if (!File.Exists(path))
        {
            return (null, null);
        }
        try
        {
            using var json = StrictJson.Parse(ForeignFile.ReadBytes(path));
            return (Name(json.RootElement, "bos_token"), Name(json.RootElement, "eos_token"));
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new ConfigurationException(
                new Fault(path, e.Message, "a tokenizer_config.json", "Download or write the file again").ToString(),
                e
            );
        }
    }

    /// <summary>A token is written as its text, or as an object with the text under <c>content</c>.</summary>
    private static string? Name(JsonElement root, string key)
    {
        if (!root.TryGetProperty(key, out var value))
        {
            return null;
        }
        return value.ValueKind switch
        {
            JsonValueKind.String => value.GetString(),
            JsonValueKind.Object => value.GetProperty("content").GetString(),
            _ => null,
        };
    }
}
