using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// GPT-NeoX and Pythia: LayerNorm, rotary positions on a part of each head, attention and MLP side by side unless
/// use_parallel_residual is false, joined projections whose rows lie head by head (query, key and value of one head, then
/// of the next). attention.bias, masked_bias and rotary_emb.inv_freq are buffers and are not read.
/// </summary>
public sealed class GptNeoXFamily : ModelFamily
{
    public override string ModelType => "gpt_neox";

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(json);
        int width = json.Size("hidden_size");
        int heads = json.Size("num_attention_heads");
        int headWidth = ReadHeadWidth(json);
        bool attentionBias = json.Flag("attention_bias", true);
        return new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("vocab_size"),
            Width = width,
            Layers = json.Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = heads,
            HeadWidth = headWidth,
            MlpWidth = json.Size("intermediate_size"),
            Context = json.Size("max_position_embeddings", 2048),
            Norm = NormKind.LayerNorm,
            NormEpsilon = json.Number("layer_norm_eps", 1e-5),
            Activation = ReadActivation(json, "hidden_act", "gelu"),
            GatedMlp = false,
            Rotary = ReadRotary(json, headWidth, "rotary_pct", 0.25),
            QkvBias = attentionBias,
            AttentionOutBias = attentionBias,
            MlpBias = true,
            ParallelResidual = json.Flag("use_parallel_residual", true),
            TiedEmbeddings = json.Flag("tie_word_embeddings", false),
            BosId = json.OptionalId("bos_token_id"),
            EosId = json.OptionalId("eos_token_id"),
        };
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(config);
        string prefix = source.Has("gpt_neox.embed_in.weight") ? "gpt_neox." : "";
        var tokens = source.Load($"{prefix}embed_in.weight", config.Vocabulary, config.Width);
        return new TransformerWeights(
            tokens,
            null,
            [.. Enumerable.Range(0, config.Layers).Select(i => LoadBlock(source, $"{prefix}layers.{i}", config))],
            LoadLayerNorm(source, $"{prefix}final_layer_norm", config.Width),
            new Linear(
                config.TiedEmbeddings ? tokens : source.Load("embed_out.weight", config.Vocabulary, config.Width),
                null
            )
        );
    }

    private static BlockWeights LoadBlock(WeightSource source, string layer, TransformerConfig config)
    {
        long width = config.Width;
        string attention = $"{layer}.attention";
        return new BlockWeights(
            LoadLayerNorm(source, $"{layer}.input_layernorm", width),
            LoadQkv(source, $"{attention}.query_key_value", config),
            LoadJoined(source, config.AttentionOutBias, width, ($"{attention}.dense", width)),
            LoadLayerNorm(source, $"{layer}.post_attention_layernorm", width),
            LoadJoined(source, true, width, ($"{layer}.mlp.dense_h_to_4h", config.MlpWidth)),
            LoadJoined(source, true, config.MlpWidth, ($"{layer}.mlp.dense_4h_to_h", width))
        );
    }

    /// <summary>Rows (head, part, head width) in the order (part, head, head width).</summary>
    private static Linear LoadQkv(WeightSource source, string name, TransformerConfig config)
    {
        long rows = 3L * config.Width;
        Tensor Ordered(Tensor stored) => stored.view(config.Heads, 3, config.HeadWidth, -1).transpose(0, 1);
        return new(
            source.LoadReordered($"{name}.weight", [rows, config.Width], Ordered, rows, config.Width),
            config.QkvBias ? source.LoadReordered($"{name}.bias", [rows], Ordered, rows) : null
        );
    }
}
