using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Tokens;

/// <summary>
/// Loads the tokenizer of a model folder: vocab.json with merges.txt (or GPT-2's original encoder.json with vocab.bpe), else
/// tokenizer.json, else SentencePiece's tokenizer.model, else what llama2.c puts beside its models (tok512.model,
/// tok512.bin). Where a folder has several they are the same tokenizer; the first is the one with the least to interpret.
/// </summary>
public static class Tokenizers
{
    /// <param name="model">A model's folder, or its file, beside which the tokenizer is.</param>
    /// <exception cref="ConfigurationException">No tokenizer there, or one that could not be reproduced exactly.</exception>
    public static ITokenizer Load(string model)
    {
        string folder = File.Exists(model) ? Path.GetDirectoryName(Path.GetFullPath(model))! : model;
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
        if (Only(folder, "tok*.model") is { } named)
        {
            return SentencePieceBpe.Read(named, Inputs.HashOf([named]));
        }
        if (Only(folder, "tok*.bin") is { } llama2c)
        {
            return SentencePieceBpe.ReadLlama2c(llama2c, Inputs.HashOf([llama2c]));
        }
        throw new ConfigurationException(
            new Fault(
                folder,
                "no tokenizer",
                "vocab.json with merges.txt, tokenizer.json, tokenizer.model, or llama2.c's tok*.model or tok*.bin",
                "Copy the model's tokenizer files into its folder"
            ).ToString()
        );
    }

    /// <summary>The one file of that pattern, null where there is none.</summary>
    /// <exception cref="ConfigurationException">There are several.</exception>
    private static string? Only(string folder, string pattern)
    {
        string[] files = Directory.Exists(folder) ? Directory.GetFiles(folder, pattern) : [];
        return files.Length <= 1
            ? files.FirstOrDefault()
            : throw new ConfigurationException(
                new Fault(
                    folder,
                    "several tokenizers: "
                        + string.Join(", ", files.Select(Path.GetFileName).Order(StringComparer.Ordinal).Take(8)),
                    "one",
                    "Leave the model's own in the folder"
                ).ToString()
            );
    }
}
