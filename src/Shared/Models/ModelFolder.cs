using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Tensors;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// A language model on disk: a folder in Hugging Face layout, else one file, named itself or by its folder: a model of
/// llama2.c (<see cref="Llama2cFile"/>) or a state dict of TransformerLens (<see cref="TransformerLensFamily"/>).
/// </summary>
public sealed class ModelFolder
{
    private const string HuggingFaceConfig = "config.json";

    private readonly ModelFamily family;
    private readonly Func<Device, WeightSource> openWeights;
    private readonly Func<IReadOnlyList<string>> files;

    private ModelFolder(
        string path,
        ModelFamily family,
        TransformerConfig config,
        Func<Device, WeightSource> openWeights,
        Func<IReadOnlyList<string>> files
    )
    {
        Path = path;
        this.family = family;
        Config = config;
        this.openWeights = openWeights;
        this.files = files;
    }

    public string Path { get; }

    public TransformerConfig Config { get; }

    /// <summary>Reads the configuration; weights stay unread until <see cref="Load"/>.</summary>
    /// <exception cref="ConfigurationException">No such model, or one that this project does not support.</exception>
    /// <exception cref="CorruptArtifactException">A file that is not whole.</exception>
    public static ModelFolder Open(string path)
    {
        if (File.Exists(System.IO.Path.Combine(path, HuggingFaceConfig)))
        {
            return OpenHuggingFace(path);
        }
        string file = SingleFile(path);
        return StateDictFile.Is(file) ? OpenTransformerLens(path, file) : OpenLlama2c(path, file);
    }

    public Transformer Load(Device? device = null)
    {
        using var none = no_grad();
        using var source = openWeights(device ?? CPU);
        var weights = family.Load(source, Config);
        foreach (var (_, value) in weights.Parameters())
        {
            value.DetachFromDisposeScope();
        }
        return new Transformer(Config, weights, device);
    }

    /// <summary>SHA-256 over the configuration and the weight files: the model's identity.</summary>
    public string Hash() => Inputs.HashOf(files());

    private static ModelFolder OpenHuggingFace(string path)
    {
        var json = ConfigJson.Read(System.IO.Path.Combine(path, HuggingFaceConfig));
        var family = ModelFamily.Named(json.Text("model_type"), $"{json.Path}: model_type");
        return new ModelFolder(
            path,
            family,
            family.ReadConfig(json),
            device => WeightSource.Open(path, device),
            () => [json.Path, .. WeightSource.Files(path)]
        );
    }

    private static ModelFolder OpenLlama2c(string path, string file)
    {
        using var header = Llama2cFile.Open(file);
        return new ModelFolder(
            path,
            new LlamaFamily(),
            header.Config,
            device => WeightSource.Of(Llama2cFile.Open(file), "its header", device),
            () => [file]
        );
    }

    private static ModelFolder OpenTransformerLens(string path, string file)
    {
        var family = new TransformerLensFamily();
        string folder = System.IO.Path.GetDirectoryName(System.IO.Path.GetFullPath(file))!;
        string settings = System.IO.Path.Combine(folder, TransformerLensFamily.SettingsFile);
        return new ModelFolder(
            path,
            family,
            family.ReadConfig(TransformerLensFamily.ReadSettings(settings)),
            device => WeightSource.Of(StateDictFile.Open(file), TransformerLensFamily.SettingsFile, device),
            () => [settings, file]
        );
    }

    /// <summary>The file that the path names, or the only one of its folder that can be a model.</summary>
    private static string SingleFile(string path)
    {
        if (File.Exists(path))
        {
            return path;
        }
        // llama2.c's tokenizers end in .bin too: tokenizer.bin, tok512.bin.
        string[] candidates = Directory.Exists(path)
            ?
            [
                .. Directory
                    .EnumerateFiles(path)
                    .Where(file =>
                        System.IO.Path.GetExtension(file) is ".bin" or ".pt" or ".pth"
                        && !System.IO.Path.GetFileName(file).StartsWith("tok", StringComparison.Ordinal)
                    )
                    .Order(StringComparer.Ordinal),
            ]
            : [];
        if (candidates is [var only])
        {
            return only;
        }
        string found =
            candidates.Length > 0
                ? $"no {HuggingFaceConfig}, and {candidates.Length} files that may be models: "
                    + string.Join(", ", candidates.Take(8).Select(System.IO.Path.GetFileName))
            : Directory.Exists(path) ? $"neither {HuggingFaceConfig} nor a model file"
            : "no file or folder";
        throw new ConfigurationException(
            new Fault(
                path,
                found,
                $"a model folder in Hugging Face layout ({HuggingFaceConfig}, model.safetensors), a model file of llama2.c "
                    + "(.bin), or a state dict of TransformerLens (.pt)",
                candidates.Length > 0 ? "Name the file itself" : "Check the path of the model"
            ).ToString()
        );
    }
}
