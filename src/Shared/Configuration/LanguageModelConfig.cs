namespace Pipeline.Shared.Configuration;

/// <summary>The shape of the language model to pretrain.</summary>
public sealed record LanguageModelConfig : IValidated
{
    /// <summary>The <c>model_type</c> of its Hugging Face config. Default llama.</summary>
    public string Family { get; init; } = "llama";

    /// <summary>D, the width of the residual stream. Default 256. A multiple of <see cref="Heads"/>.</summary>
    [AtLeast(1)]
    public int Width { get; init; } = 256;

    /// <summary>L, the number of blocks. Default 6.</summary>
    [AtLeast(1)]
    public int Layers { get; init; } = 6;

    /// <summary>H, the attention heads. Default 8.</summary>
    [AtLeast(1)]
    public int Heads { get; init; } = 8;

    /// <summary>Heads of keys and values, shared by groups of query heads. Default: null, as many as <see
    /// cref="Heads"/>.</summary>
    [AtLeast(1)]
    public int? KvHeads { get; init; }

    /// <summary>The width inside the MLP. Default 512.</summary>
    [AtLeast(1)]
    public int Mlp { get; init; } = 512;

    /// <summary>Tokens a context holds. Default 256.</summary>
    [AtLeast(2)]
    public int Context { get; init; } = 256;

    /// <summary>Whether the unembedding is the embedding's transpose. Default true.</summary>
    public bool TieEmbeddings { get; init; } = true;

    /// <inheritdoc/>
    public IEnumerable<Fault> Validate(string path)
    {
        if (Family is not ("llama" or "gpt2"))
        {
            yield return new Fault(
                ConfigPath.Join(path, "family"),
                $"'{Family}'",
                "llama or gpt2",
                "Choose one of these"
            );
        }
        if (Family == "gpt2" && KvHeads is { } shared && shared != Heads)
        {
            yield return new Fault(
                ConfigPath.Join(path, "kvHeads"),
                $"{shared}",
                "none: gpt2 has as many key and value heads as heads",
                "Remove it"
            );
        }
        if (Width % Heads != 0)
        {
            yield return new Fault(
                ConfigPath.Join(path, "width"),
                $"{Width}",
                $"a multiple of heads, which is {Heads}",
                "Change one of the two"
            );
        }
        // Rotary embeddings turn the dimensions of a head in pairs.
        else if (Family == "llama" && Width / Heads % 2 != 0)
        {
            yield return new Fault(
                ConfigPath.Join(path, "width"),
                $"{Width}, {Width / Heads} for each of {Heads} heads",
                "an even number for each head",
                "Change width or heads"
            );
        }
        if (Heads % (KvHeads ?? Heads) != 0)
        {
            yield return new Fault(
                ConfigPath.Join(path, "kvHeads"),
                $"{KvHeads}",
                $"a divisor of heads, which is {Heads}",
                "Change one of the two"
            );
        }
    }
}
