using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// GPT-2: learned positions, LayerNorm, biases everywhere, projections stored [in, out] (y = x W + b), fused c_attn. Names
/// come with or without <c>transformer.</c>; attn.bias and attn.masked_bias are buffers and are not read.
/// </summary>
public sealed class Gpt2Family : ModelFamily, IWrittenFamily
{
    public override string ModelType => "gpt2";

    public override TransformerConfig ReadConfig(ConfigJson json)
    {
        int width = json.Size("n_embd");
        int heads = json.Size("n_head");
        if (width % heads != 0)
        {
            throw json.Wrong("n_head", $"{heads}", $"a divisor of n_embd = {width}", "Correct the file");
        }
        return new TransformerConfig
        {
            Family = ModelType,
            Vocabulary = json.Size("vocab_size"),
            Width = width,
            Layers = json.Size("n_layer"),
            Heads = heads,
            KeyValueHeads = heads,
            HeadWidth = width / heads,
            MlpWidth = json.Size("n_inner", FourTimes(width)),
            Context = json.Has("n_positions") ? json.Size("n_positions") : json.Size("n_ctx"),
            Norm = NormKind.LayerNorm,
            NormEpsilon = json.Number("layer_norm_epsilon", 1e-5),
            Activation = ReadActivation(json, "activation_function", "gelu_new"),
            GatedMlp = false,
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
            TiedEmbeddings = json.Flag("tie_word_embeddings", true),
            ScaleScores = json.Flag("scale_attn_weights", true),
            ScaleScoresByInverseLayer = json.Flag("scale_attn_by_inverse_layer_idx", false),
            BosId = json.OptionalId("bos_token_id"),
            EosId = json.OptionalId("eos_token_id"),
        };
    }

    public override TransformerWeights Load(WeightSource source, TransformerConfig config)
    {
        string prefix = source.Has("transformer.wte.weight") ? "transformer." : "";
        long width = config.Width;
        Norm LoadNorm(string name) =>
            new(source.Load($"{prefix}{name}.weight", width), source.Load($"{prefix}{name}.bias", width));
        Linear LoadConv1D(string name, long inputs, long outputs) =>
            new(
                source.LoadTransposed($"{prefix}{name}.weight", inputs, outputs),
                source.Load($"{prefix}{name}.bias", outputs)
            );

        var tokens = source.Load($"{prefix}wte.weight", config.Vocabulary, width);
        var blocks = Enumerable
            .Range(0, config.Layers)
            .Select(layer => new BlockWeights(
                LoadNorm($"h.{layer}.ln_1"),
                LoadConv1D($"h.{layer}.attn.c_attn", width, 3 * width),
                LoadConv1D($"h.{layer}.attn.c_proj", width, width),
                LoadNorm($"h.{layer}.ln_2"),
                LoadConv1D($"h.{layer}.mlp.c_fc", width, config.MlpWidth),
                LoadConv1D($"h.{layer}.mlp.c_proj", config.MlpWidth, width)
            ))
            .ToList();
        return new TransformerWeights(
            tokens,
            source.Load($"{prefix}wpe.weight", config.Context, width),
            blocks,
            LoadNorm("ln_f"),
            new Linear(config.TiedEmbeddings ? tokens : source.Load("lm_head.weight", config.Vocabulary, width), null)
        );
    }

    public JsonObject WriteConfig(TransformerConfig config) =>
        new()
        {
            ["architectures"] = new JsonArray("GPT2LMHeadModel"),
            ["model_type"] = ModelType,
            ["vocab_size"] = config.Vocabulary,
            ["n_embd"] = config.Width,
            ["n_layer"] = config.Layers,
            ["n_head"] = config.Heads,
            ["n_inner"] = config.MlpWidth,
            ["n_positions"] = config.Context,
            ["n_ctx"] = config.Context,
            ["layer_norm_epsilon"] = config.NormEpsilon,
            ["activation_function"] = WriteActivation(config.Activation),
            ["scale_attn_weights"] = config.ScaleScores,
            ["scale_attn_by_inverse_layer_idx"] = config.ScaleScoresByInverseLayer,
            ["tie_word_embeddings"] = config.TiedEmbeddings,
            ["bos_token_id"] = config.BosId,
            ["eos_token_id"] = config.EosId,
        };

    public IEnumerable<(string Name, Tensor Value)> Save(TransformerWeights weights, TransformerConfig config)
    {
        IEnumerable<(string, Tensor)> Pair(string name, Tensor weight, Tensor bias) =>
            [($"transformer.{name}.weight", weight), ($"transformer.{name}.bias", bias)];
        IEnumerable<(string, Tensor)> Conv1D(string name, Linear linear) => Pair(name, linear.Weight.t(), linear.Bias!);

        yield return ("transformer.wte.weight", weights.TokenEmbedding);
        yield return ("transformer.wpe.weight", weights.PositionEmbedding!);
        for (int layer = 0; layer < config.Layers; layer++)
        {
            var block = weights.Blocks[layer];
            string h = $"h.{layer}";
            foreach (
                var entry in Pair($"{h}.ln_1", block.AttentionNorm!.Weight, block.AttentionNorm!.Bias!)
                    .Concat(Conv1D($"{h}.attn.c_attn", block.Qkv))
                    .Concat(Conv1D($"{h}.attn.c_proj", block.AttentionOut))
                    .Concat(Pair($"{h}.ln_2", block.MlpNorm!.Weight, block.MlpNorm!.Bias!))
                    .Concat(Conv1D($"{h}.mlp.c_fc", block.MlpIn))
                    .Concat(Conv1D($"{h}.mlp.c_proj", block.MlpOut))
            )
            {
                yield return entry;
            }
        }
        foreach (var entry in Pair("ln_f", weights.FinalNorm.Weight, weights.FinalNorm.Bias!))
        {
            yield return entry;
        }
        if (!config.TiedEmbeddings)
        {
            yield return ("lm_head.weight", weights.Unembedding.Weight);
        }
    }
}
