using System.Text.Json.Nodes;
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

    /// <summary>The config.json that <see cref="ReadConfig"/> reads back.</summary>
    public abstract JsonObject WriteConfig(TransformerConfig config);

    /// <summary>Hugging Face tensors by name, views or copies of <paramref name="weights"/>, in a fixed order.</summary>
    public abstract IEnumerable<(string Name, Tensor Value)> Save(TransformerWeights weights, TransformerConfig config);

    public static IReadOnlyList<ModelFamily> All { get; } = [new Gpt2Family(), new LlamaFamily()];

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
