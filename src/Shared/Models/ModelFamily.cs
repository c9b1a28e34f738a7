using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// What is particular to one family of models on disk: its config.json's keys and its tensors' names and layout. The
/// forward pass is the same for all.
/// </summary>
public abstract class ModelFamily
{
    /// <summary>The <c>model_type</c> in config.json.</summary>
    public abstract string ModelType { get; }

    public abstract TransformerConfig ReadConfig(ConfigJson json);

    public abstract TransformerWeights Load(WeightSource source, TransformerConfig config);

    public static IReadOnlyList<ModelFamily> All { get; } =
    [
        new Gpt2Family(),
        new LlamaFamily(),
        new MistralFamily(),
        new Qwen2Family(),
        new Qwen3Family(),
        new GemmaFamily(),
        new Gemma2Family(),
        new Olmo2Family(),
        new GptNeoXFamily(),
        new PhiFamily(),
    ];

    /// <exception cref="ConfigurationException">No family of that name.</exception>
    public static ModelFamily Named(string modelType, string where) =>
        All.FirstOrDefault(family => family.ModelType == modelType)
        ?? throw new ConfigurationException(
            new Fault(
                where,
                $"'{modelType}'",
                "a supported family: " + string.Join(", ", All.Select(family => family.ModelType)),
                "Choose a model of one of these families"
            ).ToString()
        );

    /// <summary>Query heads and the heads of keys and values, which divide them.</summary>
    protected static (int Heads, int KeyValueHeads) ReadHeads(ConfigJson json)
    {
        int heads = json.Size("num_attention_heads");
        int keyValueHeads = json.Size("num_key_value_heads", heads);
        return heads % keyValueHeads == 0
            ? (heads, keyValueHeads)
            : throw json.Wrong(
                "num_key_value_heads",
                $"{keyValueHeads}",
                $"a divisor of num_attention_heads = {heads}",
                "Correct the file"
            );
    }

    /// <summary>hidden_size over num_attention_heads, which divides it.</summary>
    protected static int ReadHeadWidth(ConfigJson json)
    {
        int width = json.Size("hidden_size");
        int heads = json.Size("num_attention_heads");
        return width % heads == 0
            ? width / heads
            : throw json.Wrong(
                "num_attention_heads",
                $"{heads}",
                $"a divisor of hidden_size = {width}",
                "Correct the file"
            );
    }

    /// <summary>
    /// transformers 4 writes rope_theta, rope_scaling and the rotated part beside the other keys; transformers 5 writes
    /// rope_parameters with all of them.
    /// </summary>
    /// <param name="json">The config.</param>
    /// <param name="headWidth">Width of one head.</param>
    /// <param name="partKey">Where transformers 4 has the part of a head that is rotated; null where it is all.</param>
    /// <param name="part">The part where the file does not say.</param>
    protected static RotaryConfig ReadRotary(ConfigJson json, int headWidth, string? partKey = null, double part = 1)
    {
        var section = json.Section("rope_parameters") ?? json.Section("rope_scaling");
        double theta =
            section is not null && section.Has("rope_theta")
                ? section.Number("rope_theta")
                : json.Number("rope_theta", json.Number("rotary_emb_base", 10_000));
        part =
            section is not null && section.Has("partial_rotary_factor") ? section.Number("partial_rotary_factor")
            : json.Has("partial_rotary_factor") ? json.Number("partial_rotary_factor")
            : partKey is not null ? json.Number(partKey, part)
            : part;
        if (part is not (> 0 and <= 1))
        {
            throw json.Wrong(partKey ?? "partial_rotary_factor", $"{part}", "above 0, at most 1", "Correct the file");
        }
        int width = (int)(headWidth * part);
        if (width % 2 != 0)
        {
            throw json.Wrong(
                partKey ?? "head_dim",
                $"{width} rotated dimensions a head",
                "an even number",
                "Correct the file"
            );
        }
        var plain = new RotaryConfig { Theta = theta, Width = width == headWidth ? null : width };
        if (section is null)
        {
            return plain;
        }
        string key = section.Has("rope_type") ? "rope_type" : "type";
        return section.Text(key, "default") switch
        {
            "default" => plain,
            "linear" => plain with { Scaling = RotaryScalingKind.Linear, Factor = section.Number("factor") },
            "llama3" => plain with
            {
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

    /// <summary>One matrix of several that read the same input, the outputs one after another.</summary>
    protected static Linear LoadJoined(
        WeightSource source,
        bool bias,
        long inputs,
        params (string Name, long Outputs)[] parts
    )
    {
        (string, long)[] Named(string kind) => [.. parts.Select(part => ($"{part.Name}.{kind}", part.Outputs))];
        return new(source.LoadJoined(Named("weight"), inputs), bias ? source.LoadJoined(Named("bias")) : null);
    }

    /// <summary>The MLP's usual width; a damaged configuration may have any.</summary>
    protected static int FourTimes(int width) => (int)Math.Min(4L * width, int.MaxValue);

    protected static Norm LoadLayerNorm(WeightSource source, string name, long width) =>
        new(source.Load($"{name}.weight", width), source.Load($"{name}.bias", width));

    protected static ActivationKind ReadActivation(ConfigJson json, string key, string? otherwise) =>
        json.Text(key, otherwise) switch
        {
            "gelu_new" or "gelu_pytorch_tanh" => ActivationKind.GeluTanh,
            "gelu" => ActivationKind.GeluErf,
            "silu" or "swish" => ActivationKind.Silu,
            "relu" => ActivationKind.Relu,
            var other => throw json.Wrong(
                key,
                $"'{other}'",
                "gelu_new, gelu_pytorch_tanh, gelu, silu, swish or relu",
                "This activation is not supported; choose another model"
            ),
        };

    protected static string WriteActivation(ActivationKind activation) =>
        activation switch
        {
            ActivationKind.GeluTanh => "gelu_new",
            ActivationKind.GeluErf => "gelu",
            ActivationKind.Silu => "silu",
            _ => "relu",
        };
}
