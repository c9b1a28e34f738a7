using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>EleutherAI sparsify's folder of one hookpoint, e.g. <c>layers.3</c>: cfg.json and sae.safetensors. TopK only.</summary>
public sealed partial class SparsifyFormat : ISaeFormat
{
    private const string WeightsName = "sae.safetensors";
    private const string ConfigName = "cfg.json";

    public string Name => "sparsify";

    public bool Recognizes(string path) => File.Exists(Path.Combine(path, WeightsName));

    public SaeFile Load(string path)
    {
        var json = ConfigJson.Read(Path.Combine(path, ConfigName));
        string activation = json.Text("activation", "topk");
        if (activation != "topk")
        {
            throw json.Wrong("activation", $"'{activation}'", "topk", "SAEs of this kind are not supported");
        }
        foreach (string flag in (ReadOnlySpan<string>)["transcode", "skip_connection"])
        {
            if (json.Flag(flag, false))
            {
                throw json.Wrong(flag, "true", "false", "Transcoders are not supported");
            }
        }
        using var file = SafetensorsFile.Open(Path.Combine(path, WeightsName));
        using var none = no_grad();
        using var scope = NewDisposeScope();
        int width = json.Size("d_in");
        // num_latents is 0 where the dictionary's size follows from expansion_factor.
        int features = json.Count("num_latents", 0) is > 0 and var given
            ? given
            : checked(json.Size("expansion_factor") * width);
        int k = json.Size("k");
        if (k > features)
        {
            throw json.Wrong("k", $"{k}", $"at most the {features} latents", "Correct the file");
        }
        var weights = new SaeWeights(file, ConfigName, width, features);
        var sae = new TopKAutoencoder(
            weights.FeaturesByWidth("encoder.weight"),
            weights.PerFeature("encoder.bias"),
            weights.FeaturesByWidth("W_dec"),
            weights.PerWidth("b_dec"),
            k
        );
        string hookpoint = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(path)));
        string hook = Layer().Match(hookpoint) is { Success: true } match
            ? $"blocks.{match.Groups[1].Value}.hook_resid_post"
            : "";
        return new SaeFile(sae, new SaeOrigin(HookName: hook), new SaeTraining("topk", k));
    }

    public IReadOnlyList<ManifestOutput> Save(string folder, SaeFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (file.Sae is not TopKAutoencoder { Normalization: InputNormalization.None })
        {
            throw SaeFormats.CannotSay(
                Name,
                file.Sae is TopKAutoencoder ? "an SAE that normalises its input" : $"a {file.Sae.Architecture} SAE",
                "a topk SAE on plain activations"
            );
        }
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var sae = (TopKAutoencoder)file.Sae.Subtracting(decoderBias: true);
        var weights = AtomicFile.Write(
            Path.Combine(folder, WeightsName),
            stream =>
                SafetensorsWriter.Write(
                    stream,
                    [
                        ("W_dec", sae.W_dec),
                        ("b_dec", sae.b_dec),
                        ("encoder.bias", sae.b_enc),
                        ("encoder.weight", sae.W_enc),
                    ]
                )
        );
        var json = new JsonObject
        {
            ["activation"] = "topk",
            ["expansion_factor"] = Math.Max(1, sae.Features / sae.Width),
            ["normalize_decoder"] = true,
            ["num_latents"] = sae.Features,
            ["k"] = sae.K,
            ["multi_topk"] = false,
            ["skip_connection"] = false,
            ["transcode"] = false,
            ["d_in"] = sae.Width,
        };
        var config = AtomicFile.WriteText(
            Path.Combine(folder, ConfigName),
            json.ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n"
        );
        return [ManifestOutput.Of(WeightsName, weights), ManifestOutput.Of(ConfigName, config)];
    }

    [GeneratedRegex(@"^(?:.*\.)?(?:layers|h)\.(\d+)$")]
    private static partial Regex Layer();
}
