namespace Pipeline.Shared.Models;

/// <summary>Mistral: a sliding window in every layer, or none.</summary>
public sealed class MistralFamily : LlamaShapedFamily
{
    private const int UsualWindow = 4096;

    public override string ModelType => "mistral";

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        config with
        {
            Window = (int?)NumberOrNull(json, "sliding_window", UsualWindow),
        };
}

/// <summary>Qwen 2 and 2.5: biases on query, key and value alone; upper layers may slide.</summary>
public sealed class Qwen2Family : LlamaShapedFamily
{
    public override string ModelType => "qwen2";

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        QwenWindow.Read(config, json, ReadSlidingLayers) with
        {
            QkvBias = true,
            AttentionOutBias = false,
        };
}

/// <summary>Qwen 3: a norm of each head's query and key, heads of a width of their own.</summary>
public sealed class Qwen3Family : LlamaShapedFamily
{
    public override string ModelType => "qwen3";

    protected override int? UsualHeadWidth => 128;

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        QwenWindow.Read(config, json, ReadSlidingLayers) with
        {
            QueryKeyNorm = QueryKeyNorm.PerHead,
        };
}

/// <summary>
/// Gemma: embeddings times sqrt(D), norm weights stored minus 1, GELU in its tanh form in the gate, tied unless said
/// otherwise.
/// </summary>
public class GemmaFamily : LlamaShapedFamily
{
    public override string ModelType => "gemma";

    protected override double NormOffset => 1;

    protected override int? UsualHeadWidth => 256;

    /// <summary>The first release's hidden_act says gelu where it means the tanh form; transformers corrects it likewise.</summary>
    protected override ActivationKind Activation(ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(json);
        string key = json.Has("hidden_activation") ? "hidden_activation" : "hidden_act";
        var activation = ReadActivation(json, key, "gelu_pytorch_tanh");
        return activation == ActivationKind.GeluErf ? ActivationKind.GeluTanh : activation;
    }

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(config);
        ArgumentNullException.ThrowIfNull(json);
        if (json.Flag("use_bidirectional_attention", false))
        {
            throw json.Wrong(
                "use_bidirectional_attention",
                "true",
                "false or null",
                "Only causal models are supported; choose another model"
            );
        }
        return config with
        {
            EmbeddingScale = Math.Sqrt(config.Width),
            TiedEmbeddings = json.Flag("tie_word_embeddings", true),
        };
    }
}

/// <summary>Gemma 2: also norms after attention and MLP, caps on scores and logits, and every other layer slides.</summary>
public sealed class Gemma2Family : GemmaFamily
{
    public override string ModelType => "gemma2";

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        base.Adapt(config, json) with
        {
            NormAfter = true,
            ScoreWidth = json.Number("query_pre_attn_scalar", 256),
            ScoreCap = NumberOrNull(json, "attn_logit_softcapping", 50),
            LogitCap = NumberOrNull(json, "final_logit_softcapping", 30),
            Window = (int?)NumberOrNull(json, "sliding_window", 4096),
            SlidingLayers = ReadSlidingLayers(json, config.Layers, layer => layer % 2 == 0),
        };
}

/// <summary>OLMo 2: no norm before attention and MLP but one after each, and norms of whole queries and keys.</summary>
public sealed class Olmo2Family : LlamaShapedFamily
{
    public override string ModelType => "olmo2";

    protected override TransformerConfig Adapt(TransformerConfig config, ConfigJson json) =>
        config with
        {
            NormBefore = false,
            NormAfter = true,
            QueryKeyNorm = QueryKeyNorm.WholeProjection,
            NormEpsilon = json.Number("rms_norm_eps", 1e-5),
        };
}

/// <summary>Qwen's sliding windows: off unless use_sliding_window, and then from max_window_layers on.</summary>
file static class QwenWindow
{
    public static TransformerConfig Read(
        TransformerConfig config,
        ConfigJson json,
        Func<ConfigJson, int, Func<int, bool>, LayerSet?> layers
    )
    {
        if (!json.Flag("use_sliding_window", false) || (json.Names("sliding_window") && !json.Has("sliding_window")))
        {
            return config;
        }
        int first = json.Count("max_window_layers", 28);
        return config with
        {
            Window = json.Size("sliding_window", 4096),
            SlidingLayers = layers(json, config.Layers, layer => layer >= first),
        };
    }
}
