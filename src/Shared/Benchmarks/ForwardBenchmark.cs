using System.Text.Json.Nodes;
using Pipeline.Shared.Models;
using static TorchSharp.torch;

namespace Pipeline.Shared.Benchmarks;

/// <summary>
/// The forward pass a harvest takes: every block, no unembedding, one hook read. Bound: the blocks' matrix products alone,
/// on matrices of the same shapes.
/// </summary>
public static class ForwardBenchmark
{
    /// <summary>A GPT-2 shape with random weights.</summary>
    public static Transformer Gpt2Shaped(int width, int layers, int heads, int context)
    {
        const int Vocabulary = 50_257;
        var config = new TransformerConfig
        {
            Family = "gpt2",
            Vocabulary = Vocabulary,
            Width = width,
            Layers = layers,
            Heads = heads,
            KeyValueHeads = heads,
            HeadWidth = width / heads,
            MlpWidth = 4 * width,
            Context = context,
            Norm = NormKind.LayerNorm,
            NormEpsilon = 1e-5,
            Activation = ActivationKind.GeluTanh,
            GatedMlp = false,
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
            TiedEmbeddings = true,
        };
        return new Transformer(config, TransformerInitialization.Random(config, seed: 1));
    }

    /// <param name="model">The model.</param>
    /// <param name="batch">B, contexts.</param>
    /// <param name="context">T, tokens a context.</param>
    /// <param name="repeats">Measured rounds.</param>
    public static JsonObject Run(Transformer model, int batch, int context, int repeats)
    {
        ArgumentNullException.ThrowIfNull(model);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        manual_seed(1);
        var tokensBT = randint(model.Config.Vocabulary, [batch, context], dtype: int64);
        var hook = new HookPoint(model.Config.Layers - 1, HookSite.ResidPost);
        var inputs = new Dictionary<long, Tensor>();
        foreach (var linear in model.Weights.Blocks.SelectMany(Products))
        {
            long width = linear.Weight.shape[1];
            inputs.TryAdd(width, randn((long)batch * context, width));
        }
        var (forward, products) = Stopclock.MedianMilliseconds(
            repeats,
            () => model.RunHooks(tokensBT, new ForwardHooks().Read(hook, _ => { })),
            () =>
            {
                foreach (var linear in model.Weights.Blocks.SelectMany(Products))
                {
                    using var inner = NewDisposeScope();
                    linear.Apply(inputs[linear.Weight.shape[1]]);
                }
            }
        );
        double tokens = (double)batch * context;
        return Stopclock.Report(
            new JsonObject
            {
                ["d_model"] = model.Config.Width,
                ["layers"] = model.Config.Layers,
                ["batch"] = batch,
                ["context"] = context,
                ["repeats"] = repeats,
            },
            forward,
            products,
            new JsonObject { ["gemm_share"] = products / forward, ["tokens_per_s"] = tokens / forward * 1000 }
        );
    }

    private static Linear[] Products(BlockWeights block) => [block.Qkv, block.AttentionOut, block.MlpIn, block.MlpOut];
}
