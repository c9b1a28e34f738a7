using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Tokens;

/// <summary>
/// Loads the tokenizer of a model folder: vocab.json with merges.txt (or GPT-2's original encoder.json with vocab.bpe), else
/// tokenizer.json, else SentencePiece's tokenizer.model. Where a folder has several they are the same tokenizer; the first
/// is the one with the least to interpret.
/// </summary>
public static class Tokenizers
{
    /// <exception cref="ConfigurationException">No tokenizer there, or one that could not be reproduced exactly.</exception>
    public static ITokenizer Load(string folder)
    {
        foreach (var (vocabulary, merges) in new[] { ("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe") })
        {
            string vocabularyPath = Path.Combine(folder, vocabulary);
            string mergesPath = Path.Combine(folder, merges);
            if (File.Exists(vocabularyPath) && File.Exists(mergesPath))
            {
                return ByteLevelBpe.FromVocabularyAndMerges(
                    vocabularyPath,
                    mergesPath,
                    SpecialTokens.Read(folder),
                    Inputs.HashOf([vocabularyPath, mergesPath])
                );
            }
        }
        string json = Path.Combine(folder, "tokenizer.json");
        if (File.Exists(json))
        {
            return ByteLevelBpe.FromTokenizerJson(json, SpecialTokens.Read(folder), Inputs.HashOf([json]));
        }
        string sentencePiece = Path.Combine(folder, "tokenizer.model");
        if (File.Exists(sentencePiece))
        {
            return SentencePieceBpe.Read(sentencePiece, Inputs.HashOf([sentencePiece]));
        }
        throw new ConfigurationException(
            new Fault(
                folder,
                "no tokenizer",
                "vocab.json with merges.txt, tokenizer.json, or tokenizer.model",
                "Copy the model's tokenizer files into its folder"
            ).ToString()
        );
    }
}
