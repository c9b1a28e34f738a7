using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>y = x W^T + b.</summary>
/// <param name="Weight">[out, in]</param>
/// <param name="Bias">[out], or null.</param>
public sealed record Linear(Tensor Weight, Tensor? Bias)
{
    public Tensor Apply(Tensor x) => nn.functional.linear(x, Weight, Bias);
}

/// <param name="Weight">[D]</param>
/// <param name="Bias">[D] for LayerNorm, null for RMSNorm.</param>
public sealed record Norm(Tensor Weight, Tensor? Bias);

/// <summary>
/// One block's weights. Projections that read the same input lie in one matrix, so that each is one GEMM.
/// </summary>
/// <param name="AttentionNorm">Norm before attention; null where it reads the stream itself.</param>
/// <param name="Qkv">[(heads + 2 kv heads) x head width, D], rows ordered query, key, value.</param>
/// <param name="AttentionOut">[D, heads x head width]</param>
/// <param name="MlpNorm">Norm before the MLP, null likewise; the very one of attention where they share it.</param>
/// <param name="MlpIn">[M, D], or [2 M, D] with the gate's rows first when the MLP is gated.</param>
/// <param name="MlpOut">[D, M]</param>
public sealed record BlockWeights(
    Norm? AttentionNorm,
    Linear Qkv,
    Linear AttentionOut,
    Norm? MlpNorm,
    Linear MlpIn,
    Linear MlpOut
)
{
    /// <summary>Norm of what attention gives, before it is added; null in most families.</summary>
    public Norm? AttentionOutNorm { get; init; }

    /// <summary>Norm of what the MLP gives.</summary>
    public Norm? MlpOutNorm { get; init; }

    /// <summary>RMS norm of queries: [head width] or [heads x head width], as <see cref="TransformerConfig.QueryKeyNorm"/> says.</summary>
    public Norm? QueryNorm { get; init; }

    /// <summary>The same of keys.</summary>
    public Norm? KeyNorm { get; init; }
}

/// <summary>All weights of a transformer, float32.</summary>
/// <param name="TokenEmbedding">[V, D]</param>
/// <param name="PositionEmbedding">[context, D]; null with rotary positions.</param>
/// <param name="Blocks">One per layer.</param>
/// <param name="FinalNorm">Norm before the unembedding.</param>
/// <param name="Unembedding">[V, D]; the very tensor of <paramref name="TokenEmbedding"/> when tied.</param>
public sealed record TransformerWeights(
    Tensor TokenEmbedding,
    Tensor? PositionEmbedding,
    IReadOnlyList<BlockWeights> Blocks,
    Norm FinalNorm,
    Linear Unembedding
)
{
    /// <summary>Every tensor once, with a name of this project's own, in a fixed order.</summary>
    public IEnumerable<(string Name, Tensor Value)> Parameters()
    {
        yield return ("token_embedding", TokenEmbedding);
        if (PositionEmbedding is not null)
        {
            yield return ("position_embedding", PositionEmbedding);
        }
        for (int layer = 0; layer < Blocks.Count; layer++)
        {
            var block = Blocks[layer];
            bool sharedNorm = ReferenceEquals(block.AttentionNorm, block.MlpNorm);
            foreach (
                var (name, weight, bias) in new (string, Tensor?, Tensor?)[]
                {
                    ("attention_norm", block.AttentionNorm?.Weight, block.AttentionNorm?.Bias),
                    ("qkv", block.Qkv.Weight, block.Qkv.Bias),
                    ("query_norm", block.QueryNorm?.Weight, block.QueryNorm?.Bias),
                    ("key_norm", block.KeyNorm?.Weight, block.KeyNorm?.Bias),
                    ("attention_out", block.AttentionOut.Weight, block.AttentionOut.Bias),
                    ("attention_out_norm", block.AttentionOutNorm?.Weight, block.AttentionOutNorm?.Bias),
                    ("mlp_norm", sharedNorm ? null : block.MlpNorm?.Weight, sharedNorm ? null : block.MlpNorm?.Bias),
                    ("mlp_in", block.MlpIn.Weight, block.MlpIn.Bias),
                    ("mlp_out", block.MlpOut.Weight, block.MlpOut.Bias),
                    ("mlp_out_norm", block.MlpOutNorm?.Weight, block.MlpOutNorm?.Bias),
                }
            )
            {
                if (weight is not null)
                {
                    yield return ($"blocks.{layer}.{name}.weight", weight);
                }
                if (bias is not null)
                {
                    yield return ($"blocks.{layer}.{name}.bias", bias);
                }
            }
        }
        yield return ("final_norm.weight", FinalNorm.Weight);
        if (FinalNorm.Bias is not null)
        {
            yield return ("final_norm.bias", FinalNorm.Bias);
        }
        if (!ReferenceEquals(Unembedding.Weight, TokenEmbedding))
        {
            yield return ("unembedding.weight", Unembedding.Weight);
        }
        if (Unembedding.Bias is not null)
        {
            yield return ("unembedding.bias", Unembedding.Bias);
        }
    }
}
