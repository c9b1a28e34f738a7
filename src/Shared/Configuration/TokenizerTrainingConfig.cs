namespace Pipeline.Shared.Configuration;

/// <summary>A byte-level BPE tokenizer trained from the text.</summary>
public sealed record TokenizerTrainingConfig
{
    /// <summary>V, the tokens of the vocabulary. Default 4096. At least 257: every byte and one special
    /// token.</summary>
    [AtLeast(257)]
    public int Vocabulary { get; init; } = 4096;

    /// <summary>Bytes of text sampled to learn the merges from. Default 20,000,000.</summary>
    [AtLeast(1)]
    public long Bytes { get; init; } = 20_000_000;
}
