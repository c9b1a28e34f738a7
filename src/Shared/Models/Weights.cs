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
/// <param name="AttentionNorm">Norm before attention.</param>
/// <param name="Qkv">[(heads + 2 kv heads) x head width, D], rows ordered query, key, value.</param>
/// <param name="AttentionOut">[D, heads x head width]</param>
/// <param name="MlpNorm">Norm before the MLP.</param>
/// <param name="MlpIn">[M, D], or [2 M, D] with the gate's rows first when the MLP is gated.</param>
/// <param name="MlpOut">[D, M]</param>
public sealed record BlockWeights(
    Norm AttentionNorm,
    Linear Qkv,
    Linear AttentionOut,
    Norm MlpNorm,
    Linear MlpIn,
    Linear MlpOut
);

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
            foreach (
                var (name, weight, bias) in new[]
                {
                    ("attention_norm", block.AttentionNorm.Weight, block.AttentionNorm.Bias),
                    ("qkv", block.Qkv.Weight, block.Qkv.Bias),
                    ("attention_out", block.AttentionOut.Weight, block.AttentionOut.Bias),
                    ("mlp_norm", block.MlpNorm.Weight, block.MlpNorm.Bias),
                    ("mlp_in", block.MlpIn.Weight, block.MlpIn.Bias),
                    ("mlp_out", block.MlpOut.Weight, block.MlpOut.Bias),
                }
            )
            {
                yield return ($"blocks.{layer}.{name}.weight", weight);
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
