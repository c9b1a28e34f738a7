using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>Weights of an untrained model.</summary>
public static class TransformerInitialization
{
    /// <summary>
    /// Normal weights of standard deviation 0.02, those written to the residual stream divided by sqrt(2 layers) (GPT-2,
    /// section 2.3), norms at 1, biases at 0.
    /// </summary>
    /// <param name="config">The model's shape.</param>
    /// <param name="seed">Seed of the generator that draws them, in the order of <see cref="TransformerWeights.Parameters"/>.</param>
    public static TransformerWeights Random(TransformerConfig config, long seed)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var generator = new Generator((ulong)seed, CPU);
        const double Deviation = 0.02;
        double residualDeviation = Deviation / Math.Sqrt(2 * config.Layers);

        Tensor Normal(double deviation, params long[] shape) =>
            (randn(shape, generator: generator) * deviation).DetachFromDisposeScope();
        Tensor? Bias(bool wanted, long size) => wanted ? zeros(size).DetachFromDisposeScope() : null;
        Norm NewNorm() =>
            new(ones(config.Width).DetachFromDisposeScope(), Bias(config.Norm == NormKind.LayerNorm, config.Width));
        long attentionWidth = (long)config.Heads * config.HeadWidth;
        long qkvWidth = attentionWidth + (2L * config.KeyValueHeads * config.HeadWidth);
        long mlpInWidth = config.GatedMlp ? 2L * config.MlpWidth : config.MlpWidth;

        var tokens = Normal(Deviation, config.Vocabulary, config.Width);
        var positions = config.Rotary is null ? Normal(Deviation, config.Context, config.Width) : null;
        var blocks = new List<BlockWeights>();
        for (int layer = 0; layer < config.Layers; layer++)
        {
            blocks.Add(
                new BlockWeights(
                    NewNorm(),
                    new Linear(Normal(Deviation, qkvWidth, config.Width), Bias(config.QkvBias, qkvWidth)),
                    new Linear(
                        Normal(residualDeviation, config.Width, attentionWidth),
                        Bias(config.AttentionOutBias, config.Width)
                    ),
                    NewNorm(),
                    new Linear(Normal(Deviation, mlpInWidth, config.Width), Bias(config.MlpBias, mlpInWidth)),
                    new Linear(
                        Normal(residualDeviation, config.Width, config.MlpWidth),
                        Bias(config.MlpBias, config.Width)
                    )
                )
            );
        }
        var unembedding = config.TiedEmbeddings ? tokens : Normal(Deviation, config.Vocabulary, config.Width);
        return new TransformerWeights(tokens, positions, blocks, NewNorm(), new Linear(unembedding, null));
    }
}
