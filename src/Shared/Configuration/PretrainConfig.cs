using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>A file for <c>sae pretrain</c>: a small language model and its tokenizer, trained from text.</summary>
public sealed record PretrainConfig : IValidated
{
    public required string Name { get; init; }

    /// <summary>Of the initial weights and the order of contexts.</summary>
    public ulong Seed { get; init; } = 42;

    /// <summary>A text source, as in a pipeline file.</summary>
    [Remedy("Give it in the file or with --set text=PATH")]
    public required string Text { get; init; }

    /// <summary>The folder the model is written to, in Hugging Face layout; its subfolder training/ holds the checkpoint.</summary>
    public required string Out { get; init; }
    public TokenizerTrainingConfig Tokenizer { get; init; } = new();
    public LanguageModelConfig Model { get; init; } = new();

    /// <summary>Tokens to train on, repeating the text as needed.</summary>
    public required TokenCount Tokens { get; init; }

    /// <summary>Contexts a step.</summary>
    [AtLeast(1)]
    public int Batch { get; init; } = 32;

    /// <summary>Of AdamW, after warm-up.</summary>
    [AtLeast(0)]
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>The cosine ends at this fraction of the learning rate.</summary>
    [Between(0, 1)]
    public double MinimumLearningRateFraction { get; init; } = 0.1;

    /// <summary>Fraction of the steps with a linearly rising learning rate.</summary>
    [Between(0, 1)]
    public double Warmup { get; init; } = 0.02;

    /// <summary>Of matrices, per step times the learning rate.</summary>
    [AtLeast(0)]
    public double WeightDecay { get; init; } = 0.1;

    [Between(0, 1)]
    public double Beta1 { get; init; } = 0.9;

    [Between(0, 1)]
    public double Beta2 { get; init; } = 0.95;

    /// <summary>Largest joint gradient norm.</summary>
    [AtLeast(0)]
    public double GradientClip { get; init; } = 1;

    /// <summary>Steps between checkpoints.</summary>
    [AtLeast(1)]
    public int CheckpointEvery { get; init; } = 200;

    /// <summary>Fraction of documents, by content, kept for the held-out cross-entropy.</summary>
    [Between(0, 0.5)]
    public double HeldOut { get; init; } = 0.005;

    /// <summary>CPU threads; null leaves the choice to libtorch. Weights depend on it in their last bits.</summary>
    [AtLeast(1)]
    public int? Threads { get; init; }

    public IEnumerable<Fault> Validate(string where)
    {
        if (Model.Width % Model.Heads != 0)
        {
            yield return new Fault(
                $"{where}: model.heads",
                Model.Heads.ToString(CultureInfo.InvariantCulture),
                $"a divisor of model.width = {Model.Width}",
                "Change one of the two"
            );
        }
        else if (Model.Width / Model.Heads % 2 != 0)
        {
            yield return new Fault(
                $"{where}: model.heads",
                $"heads of width {Model.Width / Model.Heads}",
                "heads of even width (rotary positions turn pairs)",
                "Change model.heads or model.width"
            );
        }
        if (Model.Heads % (Model.KeyValueHeads ?? Model.Heads) != 0)
        {
            yield return new Fault(
                $"{where}: model.keyValueHeads",
                $"{Model.KeyValueHeads}",
                $"a divisor of model.heads = {Model.Heads}",
                "Change one of the two"
            );
        }
    }
}

/// <summary>The byte-level BPE that is trained before the model.</summary>
public sealed record TokenizerTrainingConfig
{
    /// <summary>Pieces in all: the separator, 256 bytes, and merges.</summary>
    [Between(257, 1_000_000)]
    public int Vocabulary { get; init; } = 4096;

    /// <summary>Bytes of text, from the beginning, whose words are counted.</summary>
    [AtLeast(1)]
    public long Bytes { get; init; } = 20_000_000;
}

/// <summary>Shape of a small Llama.</summary>
public sealed record LanguageModelConfig
{
    [AtLeast(1)]
    public int Width { get; init; } = 256;

    [AtLeast(1)]
    public int Layers { get; init; } = 6;

    [AtLeast(1)]
    public int Heads { get; init; } = 8;

    /// <summary>Default: as many as heads.</summary>
    [AtLeast(1)]
    public int? KeyValueHeads { get; init; }

    /// <summary>Width inside the MLP.</summary>
    [AtLeast(1)]
    public int MlpWidth { get; init; } = 512;

    /// <summary>Tokens a context.</summary>
    [AtLeast(2)]
    public int Context { get; init; } = 256;

    /// <summary>The unembedding is the embedding.</summary>
    public bool TiedEmbeddings { get; init; } = true;
}
