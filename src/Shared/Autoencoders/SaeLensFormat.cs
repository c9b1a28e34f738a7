using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>What an SAE file says of where its activations come from.</summary>
public sealed record SaeOrigin(string ModelName, string HookName, int ContextSize, string DatasetPath, bool PrependBos);

/// <summary>
/// SAELens' folder, this project's own form on disk: cfg.json, sae_weights.safetensors (W_enc [D,F], b_enc [F],
/// W_dec [F,D], b_dec [D]), sparsity.safetensors (log10 of each latent's firing frequency + 1e-10).
/// </summary>
public static class SaeLensFormat
{
    public const string ConfigName = "cfg.json";
    public const string WeightsName = "sae_weights.safetensors";
    public const string SparsityName = "sparsity.safetensors";

    /// <summary>The release of SAELens whose layout is written.</summary>
    private const string SaeLensVersion = "6.37.0";

    /// <summary>Writes the three files; frequencyF is each latent's share of tokens it fired on.</summary>
    public static IReadOnlyList<ManifestOutput> Save(
        string folder,
        TopKAutoencoder sae,
        Tensor frequencyF,
        SaeOrigin origin
    )
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var weights = AtomicFile.Write(
            Path.Combine(folder, WeightsName),
            stream =>
                SafetensorsWriter.Write(
                    stream,
                    [("W_enc", sae.W_enc.t()), ("W_dec", sae.W_dec), ("b_dec", sae.b_dec), ("b_enc", sae.b_enc)]
                )
        );
        var sparsity = AtomicFile.Write(
            Path.Combine(folder, SparsityName),
            stream => SafetensorsWriter.Write(stream, [("sparsity", (frequencyF + 1e-10).log10().to(float32))])
        );
        var config = AtomicFile.WriteText(
            Path.Combine(folder, ConfigName),
            Config(sae, origin).ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n"
        );
        var shape = new Dictionary<string, long> { ["d_in"] = sae.Width, ["d_sae"] = sae.Features };
        return
        [
            new ManifestOutput(WeightsName, weights.Bytes, weights.Sha256, null, "float32", shape),
            new ManifestOutput(SparsityName, sparsity.Bytes, sparsity.Sha256, null, "float32"),
            new ManifestOutput(ConfigName, config.Bytes, config.Sha256),
        ];
    }

    /// <exception cref="ConfigurationException">No SAE there, or one of a kind that is not supported.</exception>
    /// <exception cref="CorruptArtifactException">cfg.json and weights do not fit together.</exception>
    public static TopKAutoencoder Load(string folder, Device? device = null)
    {
        var json = ConfigJson.Read(Path.Combine(folder, ConfigName));
        Require(json, "architecture", "topk");
        Require(json, "normalize_activations", "none");
        Require(json, "reshape_activations", "none");
        if (json.Flag("rescale_acts_by_decoder_norm", false))
        {
            throw json.Wrong("rescale_acts_by_decoder_norm", "true", "false", "Fold the decoder's norms first");
        }
        int width = json.Size("d_in");
        int features = json.Size("d_sae");
        int k = json.Size("k");
        if (k > features)
        {
            throw json.Wrong("k", $"{k}", $"at most d_sae = {features}", "Correct the file");
        }
        using var file = SafetensorsFile.Open(Path.Combine(folder, WeightsName));
        using var none = no_grad();
        using var scope = NewDisposeScope();
        Tensor Weight(string name, params long[] shape)
        {
            if (file.Entries.TryGetValue(name, out var entry) && !entry.Shape.AsSpan().SequenceEqual(shape))
            {
                throw new CorruptArtifactException(
                    new Fault(
                        $"{file.Path}: {name}",
                        $"shape [{string.Join(", ", entry.Shape)}]",
                        $"[{string.Join(", ", shape)}], as {ConfigName} says",
                        "Take both files from the same SAE"
                    ).ToString()
                );
            }
            return file.LoadFloat32(name).to(device ?? CPU);
        }
        return new TopKAutoencoder(
            Weight("W_enc", width, features).t().contiguous().DetachFromDisposeScope(),
            Weight("b_enc", features).DetachFromDisposeScope(),
            Weight("W_dec", features, width).DetachFromDisposeScope(),
            Weight("b_dec", width).DetachFromDisposeScope(),
            k
        )
        {
            SubtractsDecoderBias = json.Flag("apply_b_dec_to_input", true),
        };
    }

    private static JsonObject Config(TopKAutoencoder sae, SaeOrigin origin) =>
        new()
        {
            ["architecture"] = "topk",
            ["d_in"] = sae.Width,
            ["d_sae"] = sae.Features,
            ["k"] = sae.K,
            ["rescale_acts_by_decoder_norm"] = false,
            ["dtype"] = "float32",
            ["device"] = "cpu",
            ["apply_b_dec_to_input"] = sae.SubtractsDecoderBias,
            ["normalize_activations"] = "none",
            ["reshape_activations"] = "none",
            ["metadata"] = new JsonObject
            {
                ["sae_lens_version"] = SaeLensVersion,
                ["sae_lens_training_version"] = null,
                ["model_name"] = origin.ModelName,
                ["model_class_name"] = "AutoModelForCausalLM",
                ["hook_name"] = origin.HookName,
                ["hook_head_index"] = null,
                ["context_size"] = origin.ContextSize,
                ["dataset_path"] = origin.DatasetPath,
                ["prepend_bos"] = origin.PrependBos,
                ["seqpos_slice"] = new JsonArray((JsonNode?)null),
                ["model_from_pretrained_kwargs"] = new JsonObject(),
                ["exclude_special_tokens"] = false,
                ["sequence_separator_token"] = "bos",
                ["disable_concat_sequences"] = false,
                ["training_architecture"] = "topk",
            },
        };

    private static void Require(ConfigJson json, string key, string supported)
    {
        string found = json.Text(key, supported);
        if (found != supported)
        {
            throw json.Wrong(key, $"'{found}'", supported, "SAEs of this kind are not supported yet");
        }
    }
}
