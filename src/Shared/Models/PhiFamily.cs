namespace Pipeline.Shared.Models;

/// <summary>
/// Phi 1 to 2: attention and MLP side by side on one LayerNorm, rotary positions on a part of each head, biases everywhere,
/// on the logits too.
/// </summary>
public sealed class PhiFamily : ModelFamily
{
    public override string ModelType => "phi";

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(json);
        if (json.Flag("qk_layernorm", false))
        {
            throw json.Wrong("qk_layernorm", "true", "false", "This variant is not supported; choose another model");
        }
        var (heads, keyValueHeads) = ReadHeads(json);
        int headWidth = ReadHeadWidth(json);
        return new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("vocab_size"),
            Width = json.Size("hidden_size"),
            Layers = json.Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadWidth = headWidth,
            MlpWidth = json.Size("intermediate_size"),
            Context = json.Size("max_position_embeddings", 2048),
            Norm = NormKind.LayerNorm,
            NormEpsilon = json.Number("layer_norm_eps", 1e-5),
            Activation = ReadActivation(json, "hidden_act", "gelu_new"),
            GatedMlp = false,
            Rotary = ReadRotary(json, headWidth, part: 0.5),
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
            ParallelResidual = true,
            TiedEmbeddings = json.Flag("tie_word_embeddings", false),
            BosId = json.OptionalId("bos_token_id"),
            EosId = json.OptionalId("eos_token_id"),
        };
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(config);
        string prefix = source.Has("model.embed_tokens.weight") ? "model." : "";
        long width = config.Width;
        var tokens = source.Load($"{prefix}embed_tokens.weight", config.Vocabulary, width);
        return new TransformerWeights(
            tokens,
            null,
            [.. Enumerable.Range(0, config.Layers).Select(i => LoadBlock(source, $"{prefix}layers.{i}", config))],
            LoadLayerNorm(source, $"{prefix}final_layernorm", width),
            new Linear(
                config.TiedEmbeddings ? tokens : source.Load("lm_head.weight", config.Vocabulary, width),
                source.Load("lm_head.bias", config.Vocabulary)
            )
        );
    }

    private static BlockWeights LoadBlock(WeightSource source, string layer, TransformerConfig config)
    {
        long width = config.Width;
        long queries = (long)config.Heads * config.HeadWidth;
        long keys = (long)config.KeyValueHeads * config.HeadWidth;
        string attention = $"{layer}.self_attn";
        var norm = LoadLayerNorm(source, $"{layer}.input_layernorm", width);
        return new BlockWeights(
            norm,
            LoadJoined(
                source,
                true,
                width,
                ($"{attention}.q_proj", queries),
                ($"{attention}.k_proj", keys),
                ($"{attention}.v_proj", keys)
            ),
            LoadJoined(source, true, queries, ($"{attention}.dense", width)),
            norm,
            LoadJoined(source, true, width, ($"{layer}.mlp.fc1", config.MlpWidth)),
            LoadJoined(source, true, config.MlpWidth, ($"{layer}.mlp.fc2", width))
        );
    }
}
