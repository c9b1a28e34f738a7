using System.Text;
using System.Text.Json;
using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;
using Pipeline.Shared.Text;

namespace Pipeline.Shared.Tokens;

/// <summary>GPT-2's byte-level BPE, by Microsoft.ML.Tokenizers' BpeTokenizer with GPT-2's word pattern.</summary>
internal sealed class ByteLevelBpe : ITokenizer
{
    private const string Gpt2Pattern = @"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

    private const string HuggingFaceFile = "a tokenizer file of Hugging Face";

    /// <summary>Ids are indices of tables: one beyond this is damage, not a vocabulary.</summary>
    private const int LargestId = 1 << 23;

    /// <summary>They are compiled into a pattern, which takes long for long ones.</summary>
    private const int LongestSpecialToken = 1024;

    /// <summary>A pattern comes with the model and may need exponential time; real ones take microseconds.</summary>
    private static readonly TimeSpan LongestMatch = TimeSpan.FromSeconds(1);

    private readonly BpeTokenizer tokenizer;
    private readonly Func<string, string> normalize;
    private readonly string[] pieceOf;
    private readonly HashSet<int> special;

    private ByteLevelBpe(Parts parts, SpecialTokens named, string hash)
    {
        normalize = parts.NormalizeNfc ? text => Nfc.IsSurelyNormal(text) ? text : Nfc.Normalize(text) : text => text;
        if (parts.Special.Keys.FirstOrDefault(piece => piece.Length > LongestSpecialToken) is { } endless)
        {
            throw new InvalidDataException(
                $"a special token of {endless.Length} characters, more than {LongestSpecialToken}"
            );
        }
        tokenizer = BpeTokenizer.Create(
            new BpeOptions(parts.Vocabulary)
            {
                ByteLevel = true,
                Merges = parts.Merges,
                SpecialTokens = parts.Special,
                PreTokenizer = new RegexPreTokenizer(
                    new Regex(parts.Pattern, RegexOptions.Compiled, LongestMatch),
                    parts.Special
                ),
            }
        );
        var ids = AllIds(parts);
        if (ids.FirstOrDefault(pair => pair.Value is < 0 or > LargestId) is { Key: { } wrong } entry)
        {
            throw new InvalidDataException($"the id {entry.Value} of '{wrong}', beyond {LargestId}");
        }
        pieceOf = new string[ids.Values.Max() + 1];
        Array.Fill(pieceOf, "");
        foreach (var (piece, id) in ids)
        {
            pieceOf[id] = piece;
        }
        special = [.. parts.Special.Values];
        BosId = Id(named.Bos) ?? named.BosId;
        EosId = Id(named.Eos) ?? named.EosId ?? Id("<|endoftext|>");
        Hash = hash;

        int? Id(string? piece) => piece is not null && ids.TryGetValue(piece, out int id) ? id : null;
    }

    public int VocabularySize => pieceOf.Length;

    public int? BosId { get; }

    public int? EosId { get; }

    public string Hash { get; }

    /// <summary>vocab.json {piece: id} and merges.txt, one merge a line after a version line.</summary>
    public static ByteLevelBpe FromVocabularyAndMerges(
        string vocabularyPath,
        string mergesPath,
        SpecialTokens named,
        string hash
    )
    {
        var vocabulary = ForeignFile.Read(
            vocabularyPath,
            HuggingFaceFile,
            () => ReadJson(vocabularyPath, ReadVocabulary)
        );
        return ForeignFile.Read(
            $"{vocabularyPath} with {Path.GetFileName(mergesPath)}",
            HuggingFaceFile,
            () =>
            {
                string[] merges =
                [
                    .. BoundedLines
                        .Read(mergesPath)
                        .Select(line => line.Line)
                        .Where(line => line.Length > 0 && !line.StartsWith("#version", StringComparison.Ordinal)),
                ];
                var special = new[] { "<|endoftext|>", named.Bos, named.Eos }
                    .Where(piece => piece is not null && vocabulary.ContainsKey(piece))
                    .Distinct()
                    .ToDictionary(piece => piece!, piece => vocabulary[piece!], StringComparer.Ordinal);
                return new ByteLevelBpe(new Parts(vocabulary, merges, special, Gpt2Pattern, false), named, hash);
            }
        );
    }

    /// <summary>The BPE kind of Hugging Face's tokenizer.json; every component is either reproduced or refused by name.</summary>
    public static ByteLevelBpe FromTokenizerJson(string path, SpecialTokens named, string hash)
    {
        return ForeignFile.Read(path, HuggingFaceFile, () => new ByteLevelBpe(ReadJson(path, Parts), named, hash));

        Parts Parts(JsonElement root)
        {
            var model = root.GetProperty("model");
            RequireSupportedModel(path, model);
            var special = root.TryGetProperty("added_tokens", out var added)
                ? added
                    .EnumerateArray()
                    .ToDictionary(
                        token => token.GetProperty("content").GetString()!,
                        token => token.GetProperty("id").GetInt32(),
                        StringComparer.Ordinal
                    )
                : [];
            return new Parts(
                ReadVocabulary(model.GetProperty("vocab")),
                [.. model.GetProperty("merges").EnumerateArray().Select(Merge)],
                special,
                Pattern(path, root.GetProperty("pre_tokenizer")),
                IsNfc(path, root)
            );
        }
    }

    public IReadOnlyList<int> Encode(string text)
    {
        try
        {
            return tokenizer.EncodeToIds(normalize(text));
        }
        catch (RegexMatchTimeoutException e)
        {
            throw new ConfigurationException(
                new Fault(
                    "tokenizer: pre_tokenizer",
                    $"a pattern that takes more than {LongestMatch.TotalSeconds} s to match",
                    "a pattern that splits text into words",
                    "Take the model's original tokenizer files"
                ).ToString(),
                e
            );
        }
    }

    public string Decode(IReadOnlyList<int> ids)
    {
        var text = new StringBuilder();
        var bytes = new List<byte>();
        void Flush()
        {
            text.Append(Encoding.UTF8.GetString([.. bytes]));
            bytes.Clear();
        }
        foreach (int id in ids)
        {
            if (IsBytes(id))
            {
                bytes.AddRange(pieceOf[id].Select(ByteLevelAlphabet.ByteOf));
            }
            else
            {
                Flush();
                text.Append(pieceOf[id]);
            }
        }
        Flush();
        return text.ToString();
    }

    public string TokenText(int id) => Decode([id]);

    public int BytesOf(int id, bool first) =>
        IsBytes(id) ? pieceOf[id].Length : Encoding.UTF8.GetByteCount(pieceOf[id]);

    /// <summary>
    /// Whether each character stands for a byte. Like Hugging Face's decoder: a piece with one that stands for none is taken as
    /// it is.
    /// </summary>
    private bool IsBytes(int id) => !special.Contains(id) && pieceOf[id].All(ByteLevelAlphabet.Contains);

    private static Dictionary<string, int> AllIds(Parts parts)
    {
        var ids = new Dictionary<string, int>(parts.Vocabulary, StringComparer.Ordinal);
        foreach (var (piece, id) in parts.Special)
        {
            ids[piece] = id;
        }
        return ids;
    }

    private static Dictionary<string, int> ReadVocabulary(JsonElement vocabulary) =>
        vocabulary.EnumerateObject().ToDictionary(p => p.Name, p => p.Value.GetInt32(), StringComparer.Ordinal);

    /// <summary>A merge is written "left right", or since tokenizers 0.20 ["left", "right"].</summary>
    private static string Merge(JsonElement merge) =>
        merge.ValueKind == JsonValueKind.String ? merge.GetString()! : $"{merge[0].GetString()} {merge[1].GetString()}";

    private static void RequireSupportedModel(string path, JsonElement model)
    {
        string type = model.GetProperty("type").GetString() ?? "";
        if (type != "BPE")
        {
            throw Refuse($"{path}: model.type", $"'{type}'", "BPE");
        }
        foreach (string flag in new[] { "byte_fallback", "ignore_merges" })
        {
            if (model.TryGetProperty(flag, out var value) && value.ValueKind == JsonValueKind.True)
            {
                throw Refuse($"{path}: model.{flag}", "true", "false");
            }
        }
        if (model.TryGetProperty("dropout", out var dropout) && dropout.ValueKind == JsonValueKind.Number)
        {
            throw Refuse($"{path}: model.dropout", dropout.GetRawText(), "null");
        }
    }

    private static bool IsNfc(string path, JsonElement root)
    {
        if (!root.TryGetProperty("normalizer", out var normalizer) || normalizer.ValueKind == JsonValueKind.Null)
        {
            return false;
        }
        string type = normalizer.GetProperty("type").GetString() ?? "";
        return type == "NFC" ? true : throw Refuse($"{path}: normalizer", $"'{type}'", "none or NFC");
    }

    /// <summary>The word pattern: GPT-2's for ByteLevel, or that of a Split in front of a ByteLevel that does not split.</summary>
    private static string Pattern(string path, JsonElement preTokenizer)
    {
        string where = $"{path}: pre_tokenizer";
        const string Expected = "ByteLevel, or Split by a regex before ByteLevel";
        if (preTokenizer.ValueKind != JsonValueKind.Object)
        {
            throw Refuse(where, "none", Expected);
        }
        JsonElement[] steps = preTokenizer.TryGetProperty("pretokenizers", out var sequence)
            ? [.. sequence.EnumerateArray()]
            : [preTokenizer];
        string[] types = [.. steps.Select(step => step.GetProperty("type").GetString() ?? "")];
        if (types[^1] != "ByteLevel" || steps.Length > 2 || (steps.Length == 2 && types[0] != "Split"))
        {
            throw Refuse(where, string.Join(", ", types), Expected);
        }
        if (steps[^1].TryGetProperty("add_prefix_space", out var prefix) && prefix.ValueKind == JsonValueKind.True)
        {
            throw Refuse($"{where}.add_prefix_space", "true", "false");
        }
        if (steps.Length == 1)
        {
            return Gpt2Pattern;
        }
        string behavior = steps[0].GetProperty("behavior").GetString() ?? "";
        return behavior == "Isolated"
            ? steps[0].GetProperty("pattern").GetProperty("Regex").GetString()!
            : throw Refuse($"{where}.behavior", $"'{behavior}'", "Isolated");
    }

    private static T ReadJson<T>(string path, Func<JsonElement, T> read)
    {
        using var json = StrictJson.Parse(ForeignFile.ReadBytes(path));
        return read(json.RootElement);
    }

    private static ConfigurationException Refuse(string where, string found, string expected) =>
        new(
            new Fault(
                where,
                found,
                expected,
                "This tokenizer cannot be reproduced exactly yet; choose a model with a byte-level BPE tokenizer"
            ).ToString()
        );

    private sealed record Parts(
        Dictionary<string, int> Vocabulary,
        string[] Merges,
        Dictionary<string, int> Special,
        string Pattern,
        bool NormalizeNfc
    );
}
