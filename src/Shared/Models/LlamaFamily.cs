using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// Llama 1 to 3: rotary positions, RMSNorm, SwiGLU, grouped-query attention, separate projections stored [out, in], which
/// are joined on load (query, key, value; gate, up). rotary_emb.inv_freq buffers of old checkpoints are not read.
/// </summary>
public sealed class LlamaFamily : ModelFamily
{
    public override string ModelType => "llama";

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        int width = json.Size("hidden_size");
        int heads = json.Size("num_attention_heads");
        int keyValueHeads = json.Size("num_key_value_heads", heads);
        if (heads % keyValueHeads != 0)
        {
            throw json.Wrong(
                "num_key_value_heads",
                $"{keyValueHeads}",
                $"a divisor of num_attention_heads = {heads}",
                "Correct the file"
            );
        }
        if (!json.Has("head_dim") && width % heads != 0)
        {
            throw json.Wrong(
                "num_attention_heads",
                $"{heads}",
                $"a divisor of hidden_size = {width}",
                "Correct the file"
            );
        }
        int context = json.Size("max_position_embeddings", 2048);
        bool attentionBias = json.Flag("attention_bias", false);
        return new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("vocab_size"),
            Width = width,
            Layers = json.Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadWidth = json.Size("head_dim", width / heads),
            MlpWidth = json.Size("intermediate_size"),
            Context = context,
            Norm = NormKind.RmsNorm,
            NormEpsilon = json.Number("rms_norm_eps", 1e-6),
            Activation = ReadActivation(json, "hidden_act", "silu"),
            GatedMlp = true,
            Rotary = ReadRotary(json),
            QkvBias = attentionBias,
            AttentionOutBias = attentionBias,
            MlpBias = json.Flag("mlp_bias", false),
            TiedEmbeddings = json.Flag("tie_word_embeddings", false),
            BosId = json.OptionalId("bos_token_id"),
            EosId = json.OptionalId("eos_token_id"),
        };
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        string prefix = source.Has("model.embed_tokens.weight") ? "model." : "";
        long width = config.Width;
        long queries = (long)config.Heads * config.HeadWidth;
        long keys = (long)config.KeyValueHeads * config.HeadWidth;

        Linear LoadJoined(bool bias, long inputs, params (string Name, long Outputs)[] parts)
        {
            using var scope = NewDisposeScope();
            var weight = cat([.. parts.Select(p => source.Load($"{prefix}{p.Name}.weight", p.Outputs, inputs))], 0);
            var joinedBias = bias
                ? cat([.. parts.Select(p => source.Load($"{prefix}{p.Name}.bias", p.Outputs))], 0)
                : null;
            return new(weight.MoveToOuterDisposeScope(), joinedBias?.MoveToOuterDisposeScope());
        }
        Norm LoadNorm(string name) => new(source.Load($"{prefix}{name}.weight", width), null);
        BlockWeights LoadBlock(string layer)
        {
            string attention = $"{layer}.self_attn";
            return new BlockWeights(
                LoadNorm($"{layer}.input_layernorm"),
                LoadJoined(
                    config.QkvBias,
                    width,
                    ($"{attention}.q_proj", queries),
                    ($"{attention}.k_proj", keys),
                    ($"{attention}.v_proj", keys)
                ),
                LoadJoined(config.AttentionOutBias, queries, ($"{attention}.o_proj", width)),
                LoadNorm($"{layer}.post_attention_layernorm"),
                LoadJoined(
                    config.MlpBias,
                    width,
                    ($"{layer}.mlp.gate_proj", config.MlpWidth),
                    ($"{layer}.mlp.up_proj", config.MlpWidth)
                ),
                LoadJoined(config.MlpBias, config.MlpWidth, ($"{layer}.mlp.down_proj", width))
            );
        }

        var tokens = source.Load($"{prefix}embed_tokens.weight", config.Vocabulary, width);
        return new TransformerWeights(
            tokens,
            null,
            [.. Enumerable.Range(0, config.Layers).Select(layer => LoadBlock($"layers.{layer}"))],
            LoadNorm("norm"),
            new Linear(config.TiedEmbeddings ? tokens : source.Load("lm_head.weight", config.Vocabulary, width), null)
        );
    }

    public override JsonObject WriteConfig(TransformerConfig config)
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

    public override IEnumerable<(string Name, Tensor Value)> Save(TransformerWeights weights, TransformerConfig config)
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
            yield return ($"model.{layer}.input_layernorm.weight", block.AttentionNorm.Weight);
            yield return ($"model.{layer}.post_attention_layernorm.weight", block.MlpNorm.Weight);
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

    /// <summary>transformers 4 writes rope_theta and rope_scaling; transformers 5 writes rope_parameters with both.</summary>
    private static RotaryConfig ReadRotary(ConfigJson json)
    {
        var section = json.Section("rope_parameters") ?? json.Section("rope_scaling");
        double theta =
            section is not null && section.Has("rope_theta")
                ? section.Number("rope_theta")
                : json.Number("rope_theta", 10_000);
        if (section is null)
        {
            return new RotaryConfig { Theta = theta };
        }
        string key = section.Has("rope_type") ? "rope_type" : "type";
        return section.Text(key, "default") switch
        {
            "default" => new RotaryConfig { Theta = theta },
            "linear" => new RotaryConfig
            {
                Theta = theta,
                Scaling = RotaryScalingKind.Linear,
                Factor = section.Number("factor"),
            },
            "llama3" => new RotaryConfig
            {
                Theta = theta,
                Scaling = RotaryScalingKind.Llama3,
                Factor = section.Number("factor"),
                LowFrequencyFactor = section.Number("low_freq_factor", 1),
                HighFrequencyFactor = section.Number("high_freq_factor", 4),
                OriginalContext = section.Number("original_max_position_embeddings", 8192),
            },
            var other => throw section.Wrong(
                key,
                $"'{other}'",
                "default, linear or llama3",
                "This rope scaling is not supported; choose another model"
            ),
        };
    }
}
