using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A GPT-2 shaped HookedTransformer as TransformerLens names its state dict: learned positions, LayerNorm, heads on an axis of
/// their own (W_Q [H, D, head width]), matrices stored [in, out], an unembedding [D, V] with a bias. What shapes do not say
/// comes from <c>tlens_config</c> in the settings that e2e_sae writes beside it. Masks are buffers and are not read.
/// </summary>
public sealed class TransformerLensFamily : ModelFamily
{
    public const string SettingsFile = "final_config.yaml";

    private const string Section = "tlens_config";

    private static readonly string[] Read =
    [
        "d_model",
        "d_head",
        "d_mlp",
        "d_vocab",
        "n_ctx",
        "n_heads",
        "n_layers",
        "act_fn",
        "eps",
    ];

    /// <summary>Say how the model was made, where it ran, or what it is called: nothing of its arithmetic.</summary>
    private static readonly string[] Descriptive =
    [
        "dtype",
        "device",
        "n_devices",
        "seed",
        "init_mode",
        "init_weights",
        "initializer_range",
        "model_name",
        "original_architecture",
        "tokenizer_name",
        "n_params",
        "default_prepend_bos",
    ];

    private static readonly Dictionary<string, string> Supported = new(StringComparer.Ordinal)
    {
        ["normalization_type"] = "LN",
        ["positional_embedding_type"] = "standard",
        ["attention_dir"] = "causal",
    };

    private static readonly string[] SupportedOff =
    [
        "attn_only",
        "gated_mlp",
        "parallel_attn_mlp",
        "use_local_attn",
        "scale_attn_by_inverse_layer_idx",
    ];

    private static readonly string[] TensorsBesideBlocks =
    [
        "embed.W_E",
        "pos_embed.W_pos",
        "ln_final.w",
        "ln_final.b",
        "unembed.W_U",
        "unembed.b_U",
    ];

    private static readonly string[] TensorsOfABlock =
    [
        "ln1.w",
        "ln1.b",
        "attn.W_Q",
        "attn.b_Q",
        "attn.W_K",
        "attn.b_K",
        "attn.W_V",
        "attn.b_V",
        "attn.W_O",
        "attn.b_O",
        "attn.mask",
        "attn.IGNORE",
        "ln2.w",
        "ln2.b",
        "mlp.W_in",
        "mlp.b_in",
        "mlp.W_out",
        "mlp.b_out",
    ];

    public override string ModelType => "transformer_lens";

    /// <summary>The model's part of the settings.</summary>
    /// <exception cref="ConfigurationException">No such file, or no such part.</exception>
    public static ConfigJson ReadSettings(string path)
    {
        var settings = ConfigJson.ReadYaml(path);
        return settings.Section(Section)
            ?? throw settings.Wrong(
                Section,
                "nothing",
                "the settings of a HookedTransformer (d_model, d_head, n_layers, ...)",
                "Write them there, as the model was made with them"
            );
    }

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        ArgumentNullException.ThrowIfNull(json);
        RequireSupported(json);
        int width = json.Size("d_model");
        int headWidth = json.Size("d_head");
        int heads = json.Size("n_heads", Math.Max(1, width / headWidth));
        return new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("d_vocab"),
            Width = width,
            Layers = json.Size("n_layers"),
            Heads = heads,
            KeyValueHeads = heads,
            HeadWidth = headWidth,
            MlpWidth = json.Size("d_mlp", FourTimes(width)),
            Context = json.Size("n_ctx"),
            Norm = NormKind.LayerNorm,
            NormEpsilon = json.Number("eps", 1e-5),
            Activation = ReadActivation(json, "act_fn", null),
            GatedMlp = false,
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
        };
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        ArgumentNullException.ThrowIfNull(source);
        ArgumentNullException.ThrowIfNull(config);
        RequireNamesOf(source, config.Layers);
        long width = config.Width;
        return new TransformerWeights(
            source.Load("embed.W_E", config.Vocabulary, width),
            source.Load("pos_embed.W_pos", config.Context, width),
            [.. Enumerable.Range(0, config.Layers).Select(i => LoadBlock(source, $"blocks.{i}", config))],
            LoadNorm(source, "ln_final", width),
            new Linear(
                source.LoadTransposed("unembed.W_U", width, config.Vocabulary),
                source.Load("unembed.b_U", config.Vocabulary)
            )
        );
    }

    private static BlockWeights LoadBlock(WeightSource source, string block, TransformerConfig config)
    {
        long width = config.Width;
        long heads = config.Heads;
        long headWidth = config.HeadWidth;
        using var scope = NewDisposeScope();
        Tensor Weight(string name) =>
            source.Load($"{block}.attn.W_{name}", heads, width, headWidth).transpose(1, 2).reshape(-1, width);
        Tensor Bias(string name) => source.Load($"{block}.attn.b_{name}", heads, headWidth).reshape(-1);
        string[] projections = ["Q", "K", "V"];
        var weights = new BlockWeights(
            LoadNorm(source, $"{block}.ln1", width),
            new Linear(cat([.. projections.Select(Weight)]), cat([.. projections.Select(Bias)])),
            new Linear(
                source.Load($"{block}.attn.W_O", heads, headWidth, width).reshape(-1, width).t().contiguous(),
                source.Load($"{block}.attn.b_O", width)
            ),
            LoadNorm(source, $"{block}.ln2", width),
            new Linear(
                source.LoadTransposed($"{block}.mlp.W_in", width, config.MlpWidth),
                source.Load($"{block}.mlp.b_in", config.MlpWidth)
            ),
            new Linear(
                source.LoadTransposed($"{block}.mlp.W_out", config.MlpWidth, width),
                source.Load($"{block}.mlp.b_out", width)
            )
        );
        foreach (var linear in new[] { weights.Qkv, weights.AttentionOut, weights.MlpIn, weights.MlpOut })
        {
            linear.Weight.MoveToOuterDisposeScope();
            linear.Bias!.MoveToOuterDisposeScope();
        }
        foreach (var norm in new[] { weights.AttentionNorm!, weights.MlpNorm! })
        {
            norm.Weight.MoveToOuterDisposeScope();
            norm.Bias!.MoveToOuterDisposeScope();
        }
        return weights;
    }

    private static Norm LoadNorm(WeightSource source, string name, long width) =>
        new(source.Load($"{name}.w", width), source.Load($"{name}.b", width));

    private static void RequireSupported(ConfigJson json)
    {
        const string Remedy = "Only GPT-2 shaped models of TransformerLens are supported: choose another";
        foreach (string key in json.Keys.Where(json.Has))
        {
            if (Supported.TryGetValue(key, out string? only))
            {
                string text = json.Text(key);
                if (text != only)
                {
                    throw json.Wrong(key, $"'{text}'", $"'{only}'", Remedy);
                }
            }
            else if (SupportedOff.Contains(key))
            {
                if (json.Flag(key, false))
                {
                    throw json.Wrong(key, "true", "false", Remedy);
                }
            }
            else if (!Read.Contains(key) && !Descriptive.Contains(key))
            {
                throw json.Wrong(key, "a setting that is not known here", string.Join(", ", Read), Remedy);
            }
        }
    }

    /// <summary>Settings may leave out what they take for granted; a tensor that is not read shows it.</summary>
    private static void RequireNamesOf(WeightSource source, int layers)
    {
        var known = Enumerable
            .Range(0, layers)
            .SelectMany(layer => TensorsOfABlock.Select(name => $"blocks.{layer}.{name}"))
            .Concat(TensorsBesideBlocks);
        if (source.Names.Except(known).Order(StringComparer.Ordinal).FirstOrDefault() is { } stranger)
        {
            throw new ConfigurationException(
                new Fault(
                    $"{source.Path}: tensor {stranger}",
                    "a tensor that no GPT-2 shaped model of TransformerLens has",
                    $"embed, pos_embed, {layers} blocks (ln1, attn, ln2, mlp), ln_final, unembed",
                    $"Check n_layers in {SettingsFile}; other shapes are not supported"
                ).ToString()
            );
        }
    }
}
