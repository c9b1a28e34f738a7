using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>Llama 1 to 3.</summary>
public sealed class LlamaFamily : LlamaShapedFamily, IWrittenFamily
{
    public override string ModelType => "llama";

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        config with
        {
            MlpBias = json.Flag("mlp_bias", false),
        };

    public JsonObject WriteConfig(TransformerConfig config)
    {
        if (config.Rotary is not { Scaling: RotaryScalingKind.None } rotary)
        {
            throw new ArgumentException("only plain rotary positions are written", nameof(config));
        }
        return new JsonObject
        {
            ["architectures"] = new JsonArray("LlamaForCausalLM"),
            ["model_type"] = ModelType,
            ["vocab_size"] = config.Vocabulary,
            ["hidden_size"] = config.Width,
            ["intermediate_size"] = config.MlpWidth,
            ["num_hidden_layers"] = config.Layers,
            ["num_attention_heads"] = config.Heads,
            ["num_key_value_heads"] = config.KeyValueHeads,
            ["head_dim"] = config.HeadWidth,
            ["max_position_embeddings"] = config.Context,
            ["rms_norm_eps"] = config.NormEpsilon,
            ["rope_theta"] = rotary.Theta,
            ["rope_scaling"] = null,
            ["hidden_act"] = WriteActivation(config.Activation),
            ["attention_bias"] = config.QkvBias,
            ["mlp_bias"] = config.MlpBias,
            ["tie_word_embeddings"] = config.TiedEmbeddings,
            ["bos_token_id"] = config.BosId,
            ["eos_token_id"] = config.EosId,
        };
    }

    public IEnumerable<(string Name, Tensor Value)> Save(TransformerWeights weights, TransformerConfig config)
    {
        long queries = (long)config.Heads * config.HeadWidth;
        long keys = (long)config.KeyValueHeads * config.HeadWidth;
        IEnumerable<(string, Tensor)> Parts(Linear joined, params (string Name, long Outputs)[] parts)
        {
            long from = 0;
            foreach (var (name, outputs) in parts)
            {
                yield return ($"model.{name}.weight", joined.Weight.narrow(0, from, outputs));
                if (joined.Bias is not null)
                {
                    yield return ($"model.{name}.bias", joined.Bias.narrow(0, from, outputs));
                }
                from += outputs;
            }
        }

        yield return ("model.embed_tokens.weight", weights.TokenEmbedding);
        for (int i = 0; i < config.Layers; i++)
        {
            var block = weights.Blocks[i];
            string layer = $"layers.{i}";
            string attention = $"{layer}.self_attn";
            yield return ($"model.{layer}.input_layernorm.weight", block.AttentionNorm!.Weight);
            yield return ($"model.{layer}.post_attention_layernorm.weight", block.MlpNorm!.Weight);
            foreach (
                var part in Parts(
                        block.Qkv,
                        ($"{attention}.q_proj", queries),
                        ($"{attention}.k_proj", keys),
                        ($"{attention}.v_proj", keys)
                    )
                    .Concat(Parts(block.AttentionOut, ($"{attention}.o_proj", config.Width)))
                    .Concat(
                        Parts(
                            block.MlpIn,
                            ($"{layer}.mlp.gate_proj", config.MlpWidth),
                            ($"{layer}.mlp.up_proj", config.MlpWidth)
                        )
                    )
                    .Concat(Parts(block.MlpOut, ($"{layer}.mlp.down_proj", config.Width)))
            )
            {
                yield return part;
            }
        }
        yield return ("model.norm.weight", weights.FinalNorm.Weight);
        if (!config.TiedEmbeddings)
        {
            yield return ("lm_head.weight", weights.Unembedding.Weight);
        }
    }
}
