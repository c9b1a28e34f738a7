using System.Runtime.Intrinsics;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>Models of every switch that a forward pass without gradients goes by, with no norm at 1 and no bias at 0.</summary>
internal static class CpuForwardModels
{
    public static IReadOnlyList<string> Names { get; } =
    [
        "llama",
        "llama-wide",
        "gpt2",
        "window",
        "part",
        "neox",
        "gemma",
        "relu",
        "norms-after",
        "norms-everywhere",
        "phi",
        "capped",
        "whole-query-norm",
    ];

    /// <summary>Skips what is about kernels where tensor operations stand in for them.</summary>
    public static void RequireKernels() =>
        Assert.SkipUnless(
            Vector512.IsHardwareAccelerated,
            "This processor has no 512-bit vectors; tensors do the work."
        );

    /// <summary>A model whose weights take gradients, large enough to matter.</summary>
    public static Transformer Make(string name)
    {
        var config = Config(name);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var weights = TransformerInitialization.Random(config, seed: 3);
        weights = weights with
        {
            Blocks = [.. weights.Blocks.Select(block => Normed(config, name, block))],
            Unembedding =
                name == "phi" ? new Linear(weights.Unembedding.Weight, Vector(config.Vocabulary)) : weights.Unembedding,
        };
        int seed = 100;
        foreach (var (_, value) in weights.Parameters())
        {
            if (value.dim() == 2)
            {
                value.mul_(5);
            }
            else
            {
                value.add_(Normal(seed++, value.shape) * 0.3);
            }
            value.requires_grad = true;
        }
        return new Transformer(config, weights);
    }

    /// <summary>The weights with one of them, named as <see cref="TransformerWeights.Parameters"/> does, in another form.</summary>
    public static TransformerWeights With(TransformerWeights weights, string name, Func<Tensor, Tensor> change)
    {
        Tensor Of(string at, Tensor value)
        {
            using var scope = NewDisposeScope();
            return (at == name ? change(value) : value.clone()).DetachFromDisposeScope();
        }
        Norm? NormOf(string at, Norm? norm) =>
            norm is null
                ? null
                : new Norm(Of($"{at}.weight", norm.Weight), norm.Bias is null ? null : Of($"{at}.bias", norm.Bias));
        Linear LinearOf(string at, Linear linear) =>
            new(Of($"{at}.weight", linear.Weight), linear.Bias is null ? null : Of($"{at}.bias", linear.Bias));

        BlockWeights BlockOf(BlockWeights block, int layer)
        {
            string at = $"blocks.{layer}";
            var attentionNorm = NormOf($"{at}.attention_norm", block.AttentionNorm);
            return new BlockWeights(
                attentionNorm,
                LinearOf($"{at}.qkv", block.Qkv),
                LinearOf($"{at}.attention_out", block.AttentionOut),
                ReferenceEquals(block.AttentionNorm, block.MlpNorm)
                    ? attentionNorm
                    : NormOf($"{at}.mlp_norm", block.MlpNorm),
                LinearOf($"{at}.mlp_in", block.MlpIn),
                LinearOf($"{at}.mlp_out", block.MlpOut)
            )
            {
                AttentionOutNorm = NormOf($"{at}.attention_out_norm", block.AttentionOutNorm),
                MlpOutNorm = NormOf($"{at}.mlp_out_norm", block.MlpOutNorm),
                QueryNorm = NormOf($"{at}.query_norm", block.QueryNorm),
                KeyNorm = NormOf($"{at}.key_norm", block.KeyNorm),
            };
        }

        return new TransformerWeights(
            weights.TokenEmbedding.clone().DetachFromDisposeScope(),
            weights.PositionEmbedding?.clone().DetachFromDisposeScope(),
            [.. weights.Blocks.Select(BlockOf)],
            NormOf("final_norm", weights.FinalNorm)!,
            LinearOf("unembedding", weights.Unembedding)
        );
    }

    public static Tensor Tokens(int batch, int positions) =>
        (arange((long)batch * positions) * 7 % 29).view(batch, positions);

    public static Tensor Normal(int seed, params long[] shape)
    {
        using var generator = new Generator((ulong)seed, CPU);
        return randn(shape, generator: generator);
    }

    public static double Difference(Tensor a, Tensor b) => (a - b).abs().max().item<float>();

    private static TransformerConfig Config(string name)
    {
        var llama = TinyModels.LlamaConfig(layers: 2) with { Context = 256 };
        var gpt2 = llama with
        {
            Family = "gpt2",
            KeyValueHeads = 4,
            HeadWidth = 36,
            Norm = NormKind.LayerNorm,
            Activation = ActivationKind.GeluTanh,
            GatedMlp = false,
            Rotary = null,
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
            ScaleScoresByInverseLayer = true,
        };
        var neox = gpt2 with
        {
            Family = "gpt_neox",
            Width = 44,
            HeadWidth = 20,
            MlpWidth = 70,
            Activation = ActivationKind.GeluErf,
            Rotary = new RotaryConfig { Width = 8 },
            ScaleScoresByInverseLayer = false,
            TiedEmbeddings = false,
        };
        return name switch
        {
            "llama" => llama,
            "window" => llama with { Window = 20, SlidingLayers = new LayerSet([1]) },
            "part" => llama with
            {
                HeadWidth = 40,
                Rotary = new RotaryConfig { Width = 36 },
                ParallelResidual = true,
            },
            "llama-wide" => llama with { Width = 40, HeadWidth = 80, MlpWidth = 50 },
            "gpt2" => gpt2,
            "neox" => neox with { ParallelResidual = true },
            "gemma" => llama with { MlpWidth = 66, Activation = ActivationKind.GeluTanh, EmbeddingScale = 4 },
            "relu" => llama with { Activation = ActivationKind.Relu, GatedMlp = false },
            "norms-after" => llama with { NormBefore = false, NormAfter = true },
            "norms-everywhere" => gpt2 with { NormAfter = true, TiedEmbeddings = false },
            "phi" => neox with { Activation = ActivationKind.GeluTanh, ParallelResidual = true },
            "capped" => llama with { QueryKeyNorm = QueryKeyNorm.PerHead, ScoreCap = 0.5, LogitCap = 0.3, Window = 20 },
            "whole-query-norm" => llama with { QueryKeyNorm = QueryKeyNorm.WholeProjection },
            _ => throw new ArgumentOutOfRangeException(nameof(name), name, "no such model"),
        };
    }

    /// <summary>The norms that random weights do not have, and without those that the model has not.</summary>
    private static BlockWeights Normed(TransformerConfig config, string name, BlockWeights block)
    {
        Norm? After() =>
            config.NormAfter
                ? new Norm(Vector(config.Width), config.Norm == NormKind.LayerNorm ? Vector(config.Width) : null)
                : null;
        Norm? OfHeads(int heads) =>
            config.QueryKeyNorm switch
            {
                QueryKeyNorm.PerHead => new Norm(Vector(config.HeadWidth), null),
                QueryKeyNorm.WholeProjection => new Norm(Vector((long)heads * config.HeadWidth), null),
                _ => null,
            };
        return block with
        {
            AttentionNorm = config.NormBefore ? block.AttentionNorm : null,
            MlpNorm =
                !config.NormBefore ? null
                : name == "phi" ? block.AttentionNorm
                : block.MlpNorm,
            AttentionOutNorm = After(),
            MlpOutNorm = After(),
            QueryNorm = OfHeads(config.Heads),
            KeyNorm = OfHeads(config.KeyValueHeads),
        };
    }

    private static Tensor Vector(long width) => ones(width).DetachFromDisposeScope();
}
