namespace Pipeline.Shared.Models;

public enum NormKind
{
    /// <summary>(x - mean) / sqrt(variance + eps) * weight + bias.</summary>
    LayerNorm,

    /// <summary>x / sqrt(mean square + eps) * weight.</summary>
    RmsNorm,
}

public enum ActivationKind
{
    /// <summary>GELU by its tanh approximation (gelu_new).</summary>
    GeluTanh,

    /// <summary>GELU by the error function.</summary>
    GeluErf,
    Silu,
    Relu,
}

/// <summary>How rotary frequencies are changed for contexts longer than the model was trained on.</summary>
public enum RotaryScalingKind
{
    None,

    /// <summary>Every frequency divided by the factor.</summary>
    Linear,

    /// <summary>Llama 3.1: low frequencies divided, high ones kept, those between interpolated.</summary>
    Llama3,
}

/// <summary>Rotary position embedding, pairs (i, i + d_head/2) as Hugging Face rotates them.</summary>
public sealed record RotaryConfig
{
    public double Theta { get; init; } = 10_000;

    /// <summary>How many of a head's dimensions, the first ones, are rotated; null means all.</summary>
    public int? Width { get; init; }
    public RotaryScalingKind Scaling { get; init; }
    public double Factor { get; init; } = 1;
    public double LowFrequencyFactor { get; init; } = 1;
    public double HighFrequencyFactor { get; init; } = 4;

    /// <summary>Positions the model saw before scaling; used by <see cref="RotaryScalingKind.Llama3"/> alone.</summary>
    public double OriginalContext { get; init; } = 8192;

    /// <summary>The inverse frequencies [rotated dimensions / 2] in float64, after scaling.</summary>
    public double[] InverseFrequencies(int headWidth)
    {
        int rotated = Width ?? headWidth;
        var inverse = new double[rotated / 2];
        for (int i = 0; i < inverse.Length; i++)
        {
            // transformers computes these in float32; its numbers are the reference.
            double plain = (float)(1.0f / MathF.Pow((float)Theta, (float)(2 * i) / rotated));
            inverse[i] = Scaling switch
            {
                RotaryScalingKind.Linear => plain / Factor,
                RotaryScalingKind.Llama3 => Llama3(plain),
                _ => plain,
            };
        }
        return inverse;
    }

    private double Llama3(double inverse)
    {
        double wavelength = 2 * Math.PI / inverse;
        if (wavelength > OriginalContext / LowFrequencyFactor)
        {
            return inverse / Factor;
        }
        if (wavelength < OriginalContext / HighFrequencyFactor)
        {
            return inverse;
        }
        double smooth =
            ((OriginalContext / wavelength) - LowFrequencyFactor) / (HighFrequencyFactor - LowFrequencyFactor);
        return ((1 - smooth) * inverse / Factor) + (smooth * inverse);
    }
}

/// <summary>Root-mean-square norm of queries and keys before they are rotated.</summary>
public enum QueryKeyNorm
{
    None,

    /// <summary>Each head by itself, with one weight [head width] for all.</summary>
    PerHead,

    /// <summary>A position's whole projection, with a weight of its width.</summary>
    WholeProjection,
}

/// <summary>
/// Everything that sets one decoder-only transformer apart from another. A model family is a mapping from its config.json
/// to this record and of its tensors to <see cref="TransformerWeights"/>; the forward pass knows no families.
/// </summary>
public sealed record TransformerConfig
{
    /// <summary>The family's <c>model_type</c> in config.json.</summary>
    public required string Family { get; init; }

    /// <summary>V, the number of token ids.</summary>
    public required int Vocabulary { get; init; }

    /// <summary>D, the width of the residual stream.</summary>
    public required int Width { get; init; }
    public required int Layers { get; init; }
    public required int Heads { get; init; }

    /// <summary>Key and value heads; fewer than <see cref="Heads"/> is grouped-query attention.</summary>
    public required int KeyValueHeads { get; init; }

    /// <summary>Width of one head; heads x head width need not be the model width.</summary>
    public required int HeadWidth { get; init; }
    public required int MlpWidth { get; init; }

    /// <summary>Positions the model was made for; a longer input is refused.</summary>
    public required int Context { get; init; }
    public required NormKind Norm { get; init; }
    public required double NormEpsilon { get; init; }
    public required ActivationKind Activation { get; init; }

    /// <summary>MLP(x) = down(act(gate x) * up x) instead of down(act(up x)).</summary>
    public required bool GatedMlp { get; init; }

    /// <summary>Rotary positions; null means learned position embeddings added to the tokens'.</summary>
    public RotaryConfig? Rotary { get; init; }

    /// <summary>Bias on the query, key and value projections.</summary>
    public bool QkvBias { get; init; }

    /// <summary>Bias on the attention's output projection.</summary>
    public bool AttentionOutBias { get; init; }
    public bool MlpBias { get; init; }

    /// <summary>The unembedding is the embedding, transposed.</summary>
    public bool TiedEmbeddings { get; init; }

    /// <summary>Attention scores of layer l are also divided by l + 1 (GPT-2's scale_attn_by_inverse_layer_idx).</summary>
    public bool ScaleScoresByInverseLayer { get; init; }

    /// <summary>Attention scores are divided by sqrt(head width); false leaves them as they are (GPT-2's scale_attn_weights).</summary>
    public bool ScaleScores { get; init; } = true;

    /// <summary>Scores are divided by the root of this instead of the head width (Gemma 2's query_pre_attn_scalar).</summary>
    public double? ScoreWidth { get; init; }

    /// <summary>Scores s become cap x tanh(s / cap); null leaves them.</summary>
    public double? ScoreCap { get; init; }

    /// <summary>The same of the logits.</summary>
    public double? LogitCap { get; init; }

    /// <summary>Norm of queries and keys.</summary>
    public QueryKeyNorm QueryKeyNorm { get; init; }

    /// <summary>Attention and MLP read a norm of the residual stream; false means the stream itself.</summary>
    public bool NormBefore { get; init; } = true;

    /// <summary>What attention and MLP give is normed before it is added.</summary>
    public bool NormAfter { get; init; }

    /// <summary>The MLP reads the stream that attention read, not the one attention was added to.</summary>
    public bool ParallelResidual { get; init; }

    /// <summary>Token embeddings are multiplied by this (Gemma: sqrt(D)).</summary>
    public double EmbeddingScale { get; init; } = 1;

    /// <summary>How many positions a query of a sliding layer sees, its own included; null means all in every layer.</summary>
    public int? Window { get; init; }

    /// <summary>The layers that slide; null means all, and nothing without <see cref="Window"/>.</summary>
    public LayerSet? SlidingLayers { get; init; }

    /// <summary>The window of a layer, null where it sees everything.</summary>
    public int? WindowOf(int layer) => SlidingLayers?.Contains(layer) == false ? null : Window;

    /// <summary>What a layer's attention scores are multiplied by.</summary>
    public double ScoreFactor(int layer) =>
        (ScaleScores ? 1.0 / Math.Sqrt(ScoreWidth ?? HeadWidth) : 1.0) / (ScaleScoresByInverseLayer ? layer + 1 : 1);

    /// <summary>The model's own begin-of-sequence id, null when config.json names none. 0 is an id like any other.</summary>
    public int? BosId { get; init; }
    public int? EosId { get; init; }
}
