using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// What Llama and its descendants share on disk: rotary positions, RMSNorm, gated MLPs, grouped-query attention, separate
/// projections stored [out, in], which are joined on load (query, key, value; gate, up). rotary_emb.inv_freq buffers of old
/// checkpoints are not read. Names come with or without <c>model.</c>
/// </summary>
public abstract class LlamaShapedFamily : ModelFamily
{
    private const int UsualContext = 2048;

    /// <summary>What is added to every stored norm weight, q and k norms aside (Gemma stores them minus 1).</summary>
    protected virtual double NormOffset => 0;

    /// <summary>Head width where config.json has no head_dim; null for hidden_size / num_attention_heads.</summary>
    protected virtual int? UsualHeadWidth => null;

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(json);
        int width = json.Size("hidden_size");
        var (heads, keyValueHeads) = ReadHeads(json);
        int headWidth = json.Has("head_dim") ? json.Size("head_dim") : UsualHeadWidth ?? ReadHeadWidth(json);
        bool attentionBias = json.Flag("attention_bias", false);
        var config = new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("vocab_size"),
            Width = width,
            Layers = json.Size("num_hidden_layers"),
            Heads = heads,
            KeyValueHeads = keyValueHeads,
            HeadWidth = headWidth,
            MlpWidth = json.Size("intermediate_size"),
            Context = json.Size("max_position_embeddings", UsualContext),
            Norm = NormKind.RmsNorm,
            NormEpsilon = json.Number("rms_norm_eps", 1e-6),
            Activation = Activation(json),
            GatedMlp = true,
            Rotary = ReadRotary(json, headWidth),
            QkvBias = attentionBias,
            AttentionOutBias = attentionBias,
            TiedEmbeddings = json.Flag("tie_word_embeddings", false),
            BosId = json.OptionalId("bos_token_id"),
            EosId = json.OptionalId("eos_token_id"),
        };
        return Adapt(config, json);
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(config);
        string prefix = source.Has("model.embed_tokens.weight") ? "model." : "";
        var tokens = source.Load($"{prefix}embed_tokens.weight", config.Vocabulary, config.Width);
        return new TransformerWeights(
            tokens,
            null,
            [.. Enumerable.Range(0, config.Layers).Select(i => LoadBlock(source, $"{prefix}layers.{i}", config))],
            LoadNorm(source, $"{prefix}norm", config.Width),
            new Linear(
                config.TiedEmbeddings ? tokens : source.Load("lm_head.weight", config.Vocabulary, config.Width),
                null
            )
        );
    }

    /// <summary>The family's own switches.</summary>
    protected abstract TransformerConfig Adapt(TransformerConfig config, ConfigJson json);

    protected virtual ActivationKind Activation(ConfigJson json) => ReadActivation(json, "hidden_act", "silu");

    /// <summary>
    /// The layers that slide: as layer_types says (transformers 4.53 and later), else as <paramref name="otherwise"/> does.
    /// </summary>
    protected static LayerSet? ReadSlidingLayers(ConfigJson json, int layers, Func<int, bool> otherwise)
    {
        ArgumentNullException.ThrowIfNull(json);
        ArgumentNullException.ThrowIfNull(otherwise);
        const string Key = "layer_types";
        const string Sliding = "sliding_attention";
        if (json.Texts(Key) is not { } kinds)
        {
            return new LayerSet(Enumerable.Range(0, layers).Where(otherwise));
        }
        string[] known = [Sliding, "full_attention"];
        if (kinds.Count != layers || kinds.Except(known).Any())
        {
            throw json.Wrong(
                Key,
                string.Join(", ", kinds),
                $"{layers} of {string.Join(" and ", known)}, one a layer",
                "Choose another model if these are its layers: others are not supported"
            );
        }
        return new LayerSet(Enumerable.Range(0, layers).Where(layer => kinds[layer] == Sliding));
    }

    /// <summary>A number that may be null, and has a default where the key is absent.</summary>
    protected static double? NumberOrNull(ConfigJson json, string key, double otherwise)
    {
        ArgumentNullException.ThrowIfNull(json);
        return json.Names(key) && !json.Has(key) ? null : json.Number(key, otherwise);
    }

    private BlockWeights LoadBlock(WeightSource source, string layer, TransformerConfig config)
    {
        long width = config.Width;
        long queries = (long)config.Heads * config.HeadWidth;
        long keys = (long)config.KeyValueHeads * config.HeadWidth;
        string attention = $"{layer}.self_attn";
        Norm? NormIf(bool there, string name) => there ? LoadNorm(source, $"{layer}.{name}", width) : null;
        Norm? HeadNorm(string name, long projection) =>
            config.QueryKeyNorm switch
            {
                QueryKeyNorm.PerHead => new(source.Load($"{attention}.{name}.weight", config.HeadWidth), null),
                QueryKeyNorm.WholeProjection => new(source.Load($"{attention}.{name}.weight", projection), null),
                _ => null,
            };
        // Where norms follow attention and MLP, post_attention_layernorm is the one after attention.
        string mlpNorm = config.NormAfter ? "pre_feedforward_layernorm" : "post_attention_layernorm";
        return new BlockWeights(
            NormIf(config.NormBefore, "input_layernorm"),
            LoadJoined(
                source,
                config.QkvBias,
                width,
                ($"{attention}.q_proj", queries),
                ($"{attention}.k_proj", keys),
                ($"{attention}.v_proj", keys)
            ),
            LoadJoined(source, config.AttentionOutBias, queries, ($"{attention}.o_proj", width)),
            NormIf(config.NormBefore, mlpNorm),
            LoadJoined(
                source,
                config.MlpBias,
                width,
                ($"{layer}.mlp.gate_proj", config.MlpWidth),
                ($"{layer}.mlp.up_proj", config.MlpWidth)
            ),
            LoadJoined(source, config.MlpBias, config.MlpWidth, ($"{layer}.mlp.down_proj", width))
        )
        {
            AttentionOutNorm = NormIf(config.NormAfter, "post_attention_layernorm"),
            MlpOutNorm = NormIf(config.NormAfter, "post_feedforward_layernorm"),
            QueryNorm = HeadNorm("q_norm", queries),
            KeyNorm = HeadNorm("k_norm", keys),
        };
    }

    private Norm LoadNorm(WeightSource source, string name, long width)
    {
        var weight = source.Load($"{name}.weight", width);
        return new(NormOffset == 0 ? weight : weight.add_(NormOffset), null);
    }
}
