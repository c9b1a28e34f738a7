using Pipeline.Shared.Artifacts;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>A language model in Hugging Face layout on disk: config.json and safetensors weights.</summary>
public sealed class ModelFolder
{
    private readonly ModelFamily family;

    private ModelFolder(string path, ModelFamily family, TransformerConfig config)
    {
        Path = path;
        this.family = family;
        Config = config;
    }

    public string Path { get; }

    public TransformerConfig Config { get; }

    /// <summary>Reads config.json; weights stay unread until <see cref="Load"/>.</summary>
    /// <exception cref="ConfigurationException">No such folder, or a model this project does not support.</exception>
    public static ModelFolder Open(string path)
    {
        if (!Directory.Exists(path))
        {
            throw new ConfigurationException(
                new Fault(
                    path,
                    "no folder",
                    "a model folder in Hugging Face layout (config.json, model.safetensors)",
                    "Check the path of the model"
                ).ToString()
            );
        }
        var json = ConfigJson.Read(System.IO.Path.Combine(path, "config.json"));
        var family = ModelFamily.Named(json.Text("model_type"), $"{json.Path}: model_type");
        return new ModelFolder(path, family, family.ReadConfig(json));
    }

    public Transformer Load(Device? device = null)
    {
        using var none = no_grad();
        using var source = WeightSource.Open(Path, device ?? CPU);
        var weights = family.Load(source, Config);
        foreach (var (_, value) in weights.Parameters())
        {
            value.DetachFromDisposeScope();
        }
        return new Transformer(Config, weights, device);
    }

    /// <summary>SHA-256 over config.json and the weight files: the model's identity.</summary>
    public string Hash() => Inputs.HashOf([System.IO.Path.Combine(Path, "config.json"), .. WeightSource.Files(Path)]);
}
