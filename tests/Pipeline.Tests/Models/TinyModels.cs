using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>Small random transformers for tests that need a model but no reference numbers.</summary>
internal static class TinyModels
{
    public static TransformerConfig LlamaConfig(int layers) =>
        new()
        {
            Family = "llama",
            Vocabulary = 32,
            Width = 16,
            Layers = layers,
            Heads = 4,
            KeyValueHeads = 2,
            HeadWidth = 4,
            MlpWidth = 24,
            Context = 16,
            Norm = NormKind.RmsNorm,
            NormEpsilon = 1e-5,
            Activation = ActivationKind.Silu,
            GatedMlp = true,
            Rotary = new RotaryConfig(),
            TiedEmbeddings = true,
            BosId = 0,
            EosId = 0,
        };

    public static Transformer Llama(int layers, int seed = 1)
    {
        var config = LlamaConfig(layers);
        return new Transformer(config, TransformerInitialization.Random(config, seed));
    }
}
