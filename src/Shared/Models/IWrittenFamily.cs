using System.Text.Json.Nodes;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>A family whose models this project also trains, and writes in Hugging Face layout.</summary>
public interface IWrittenFamily
{
    /// <summary>The config.json that <see cref="ModelFamily.ReadConfig"/> reads back.</summary>
    JsonObject WriteConfig(TransformerConfig config);

    /// <summary>Hugging Face tensors by name, views or copies of <paramref name="weights"/>, in a fixed order.</summary>
    IEnumerable<(string Name, Tensor Value)> Save(TransformerWeights weights, TransformerConfig config);
}
