using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Tokens;

namespace Pipeline.Train.Pretraining;

/// <summary>
/// A learnt byte-level BPE vocabulary: id 0 is the separator, ids 1 to 256 the bytes in GPT-2's order, then one piece per
/// merge. Written as GPT-2's vocab.json and merges.txt, which Hugging Face's tokenizers read.
/// </summary>
public sealed class BpeVocabulary
{
    private readonly List<string> pieces;
    private readonly List<string> mergeLines = [];

    /// <param name="merges">Pairs of ids in the order they were learnt.</param>
    public BpeVocabulary(IReadOnlyList<(int Left, int Right)> merges)
    {
        pieces = [BpeTrainer.EndOfText, .. ByteLevelAlphabet.Ordered.Select(c => c.ToString())];
        foreach (var (left, right) in merges)
        {
            mergeLines.Add($"{pieces[left]} {pieces[right]}");
            pieces.Add(pieces[left] + pieces[right]);
        }
    }

    public int Count => pieces.Count;

    /// <summary>vocab.json: {piece: id}.</summary>
    public string VocabJson()
    {
        var json = new JsonObject();
        for (int id = 0; id < pieces.Count; id++)
        {
            json[pieces[id]] = id;
        }
        return json.ToJsonString(new JsonSerializerOptions { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
    }

    /// <summary>merges.txt: a version line, then one merge a line.</summary>
    public string MergesText() => "#version: 0.2\n" + string.Concat(mergeLines.Select(line => line + "\n"));

    /// <summary>tokenizer_config.json for GPT2Tokenizer.</summary>
    public static string TokenizerConfigJson(int context) =>
        new JsonObject
        {
            ["tokenizer_class"] = "GPT2Tokenizer",
            ["bos_token"] = BpeTrainer.EndOfText,
            ["eos_token"] = BpeTrainer.EndOfText,
            ["unk_token"] = BpeTrainer.EndOfText,
            ["add_prefix_space"] = false,
            ["model_max_length"] = context,
        }.ToJsonString(
            new JsonSerializerOptions { WriteIndented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping }
        );
}
