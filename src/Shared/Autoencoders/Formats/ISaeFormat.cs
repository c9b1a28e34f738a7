using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>One library's way of keeping an SAE on disk.</summary>
public interface ISaeFormat
{
    /// <summary>As <c>convert --to</c> spells it.</summary>
    string Name { get; }

    /// <summary>Whether the folder or file looks like this format's.</summary>
    bool Recognizes(string path);

    /// <summary>Reads it; the tensors belong to the result.</summary>
    /// <exception cref="ConfigurationException">A kind of SAE that is not supported.</exception>
    /// <exception cref="CorruptArtifactException">Damaged, or parts that do not fit together.</exception>
    SaeFile Load(string path);

    /// <summary>Writes it into a folder.</summary>
    /// <exception cref="ConfigurationException">The format has no way to say what this SAE does.</exception>
    IReadOnlyList<ManifestOutput> Save(string folder, SaeFile file);
}

public static class SaeFormats
{
    public static readonly IReadOnlyList<ISaeFormat> All =
    [
        new SaeLensFormat(),
        new DictionaryLearningFormat(),
        new SparsifyFormat(),
        new OpenAiFormat(),
    ];

    /// <exception cref="ConfigurationException">No format of that name.</exception>
    public static ISaeFormat Named(string name) =>
        All.FirstOrDefault(format => format.Name == name)
        ?? throw new ConfigurationException(
            new Fault("--to", $"'{name}'", string.Join(", ", All.Select(f => f.Name)), "Choose one of these").ToString()
        );

    /// <exception cref="ConfigurationException">Nothing there, or no SAE of a known format.</exception>
    public static ISaeFormat Of(string path) =>
        All.FirstOrDefault(format => format.Recognizes(path))
        ?? throw new ConfigurationException(
            new Fault(
                path,
                Path.Exists(path) ? "no SAE of a known format" : "nothing there",
                "a folder with sae_weights.safetensors (SAELens), ae.pt (dictionary_learning) or sae.safetensors "
                    + "(sparsify), or a .pt file of OpenAI's",
                "Check the path"
            ).ToString()
        );

    internal static ConfigurationException CannotSay(string format, string found, string expected) =>
        new(
            new Fault(
                $"--to {format}",
                found,
                expected,
                "Convert to saelens, which can express every SAE this project reads"
            ).ToString()
        );
}
