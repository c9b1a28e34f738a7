using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>
/// SAELens' folder, this project's own form on disk: cfg.json, sae_weights.safetensors (W_enc [D, F], W_dec [F, D],
/// b_dec [D] and the architecture's vectors, W_skip [D, D] of a skip transcoder), sparsity.safetensors (log10 of each latent's firing frequency + 1e-10).
/// </summary>
public sealed class SaeLensFormat : ISaeFormat
{
    public const string ConfigName = "cfg.json";
    public const string WeightsName = "sae_weights.safetensors";
    public const string SparsityName = "sparsity.safetensors";

    /// <summary>The release of SAELens whose layout is written.</summary>
    private const string SaeLensVersion = "6.37.0";

    public string Name => "saelens";

    public bool Recognizes(string path) => File.Exists(Path.Combine(path, WeightsName));

    /// <exception cref="ConfigurationException">No SAE there, or one of a kind that is not supported.</exception>
    /// <exception cref="CorruptArtifactException">cfg.json and weights do not fit together.</exception>
    public SaeFile Load(string path)
    {
        var json = ConfigJson.Read(Path.Combine(path, ConfigName));
        Require(json, "reshape_activations", "none", "Activations of attention heads (hook_z) are not supported");
        using var file = SafetensorsFile.Open(Path.Combine(path, WeightsName));
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var sae = LoadSae(json, new SaeWeights(file, ConfigName, json.Size("d_in"), json.Size("d_sae"))) with
        {
            SubtractsDecoderBias = json.Flag("apply_b_dec_to_input", true),
            Normalization = Normalization(json),
        };
        return new SaeFile(sae, Origin(json), Training(json, sae)) { FrequencyF = Frequency(path, sae.Features) };
    }

    public IReadOnlyList<ManifestOutput> Save(string folder, SaeFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var weights = AtomicFile.Write(
            Path.Combine(folder, WeightsName),
            stream =>
                SafetensorsWriter.Write(
                    stream,
                    [.. file.Sae.Parameters.Select(p => (p.Name, p.Name == "W_enc" ? p.Value.t() : p.Value))]
                )
        );
        var config = AtomicFile.WriteText(
            Path.Combine(folder, ConfigName),
            Config(file).ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n"
        );
        var shape = new Dictionary<string, long> { ["d_in"] = file.Sae.Width, ["d_sae"] = file.Sae.Features };
        var outputs = new List<ManifestOutput>
        {
            new(WeightsName, weights.Bytes, weights.Sha256, null, "float32", shape),
        };
        if (file.FrequencyF is { } frequencyF)
        {
            var sparsity = AtomicFile.Write(
                Path.Combine(folder, SparsityName),
                stream => SafetensorsWriter.Write(stream, [("sparsity", (frequencyF + 1e-10).log10().to(float32))])
            );
            outputs.Add(new ManifestOutput(SparsityName, sparsity.Bytes, sparsity.Sha256, null, "float32"));
        }
        outputs.Add(new ManifestOutput(ConfigName, config.Bytes, config.Sha256));
        return outputs;
    }

    private static Autoencoder LoadSae(ConfigJson json, SaeWeights weights)
    {
        Tensor Encoder() => weights.WidthByFeatures("W_enc");
        Tensor Decoder() => weights.FeaturesByWidth("W_dec");
        Tensor DecoderBias() => weights.PerWidth("b_dec");
        Tensor Vector(string name) => weights.PerFeature(name);
        string architecture = json.Text("architecture");
        var (kind, isTranscoder, skips) = Kind(architecture);
        if (isTranscoder)
        {
            Require(json, "d_out", json.Size("d_in"), "Transcoders between widths are not supported");
        }
        Autoencoder sae = kind switch
        {
            "standard" => new StandardAutoencoder(Encoder(), Vector("b_enc"), Decoder(), DecoderBias()),
            "jumprelu" => new JumpReluAutoencoder(
                Encoder(),
                Vector("b_enc"),
                Vector("threshold"),
                Decoder(),
                DecoderBias()
            ),
            "gated" => new GatedAutoencoder(
                Encoder(),
                Vector("b_gate"),
                Vector("r_mag"),
                Vector("b_mag"),
                Decoder(),
                DecoderBias()
            ),
            "topk" => LoadTopK(json, Encoder(), Vector("b_enc"), Decoder(), DecoderBias()),
            _ => throw json.Wrong(
                "architecture",
                $"'{architecture}'",
                "standard, gated, jumprelu or topk",
                "SAEs of this kind are not supported"
            ),
        };
        return isTranscoder
            ? sae with
            {
                SubtractsDecoderBias = false,
                W_skip = skips ? weights.WidthByWidth("W_skip") : null,
            }
            : sae;
    }

    /// <summary>
    /// SAELens' transcoder, skip_transcoder, jumprelu_transcoder and jumprelu_skip_transcoder; gated and topk ones in the same
    /// manner, which SAELens does not have.
    /// </summary>
    private static (string Kind, bool IsTranscoder, bool Skips) Kind(string architecture)
    {
        const string Suffix = "transcoder";
        const string SkipSuffix = "skip_transcoder";
        if (!architecture.EndsWith(Suffix, StringComparison.Ordinal))
        {
            return (architecture, false, false);
        }
        bool skips = architecture.EndsWith(SkipSuffix, StringComparison.Ordinal);
        string kind = architecture[..^(skips ? SkipSuffix : Suffix).Length].TrimEnd('_');
        return (kind.Length == 0 ? "standard" : kind, true, skips);
    }

    private static string ArchitectureOf(SaeFile file)
    {
        if (file.Origin.TargetHookName is null)
        {
            return file.Sae.Architecture;
        }
        string prefix = file.Sae is StandardAutoencoder ? "" : $"{file.Sae.Architecture}_";
        return prefix + (file.Sae.W_skip is null ? "transcoder" : "skip_transcoder");
    }

    /// <summary>
    /// With rescale_acts_by_decoder_norm SAELens multiplies pre-activations by the decoder rows' norms and divides before
    /// decoding: the same as encoder times norm, decoder over norm.
    /// </summary>
    private static TopKAutoencoder LoadTopK(ConfigJson json, Tensor W_enc, Tensor b_enc, Tensor W_dec, Tensor b_dec)
    {
        int k = json.Size("k");
        if (k > W_dec.shape[0])
        {
            throw json.Wrong("k", $"{k}", $"at most d_sae = {W_dec.shape[0]}", "Correct the file");
        }
        if (!json.Flag("rescale_acts_by_decoder_norm", false))
        {
            return new TopKAutoencoder(W_enc, b_enc, W_dec, b_dec, k);
        }
        var normF1 = W_dec.norm(1, keepdim: true);
        return new TopKAutoencoder(
            (W_enc * normF1).DetachFromDisposeScope(),
            (b_enc * normF1.squeeze(-1)).DetachFromDisposeScope(),
            (W_dec / normF1).DetachFromDisposeScope(),
            b_dec,
            k
        );
    }

    private static Tensor? Frequency(string folder, int features)
    {
        string path = Path.Combine(folder, SparsityName);
        if (!File.Exists(path))
        {
            return null;
        }
        using var file = SafetensorsFile.Open(path);
        var logF = file.LoadFloat32("sparsity", ConfigName, features);
        return (pow(10.0, logF) - 1e-10).clamp_min(0).DetachFromDisposeScope();
    }

    private static InputNormalization Normalization(ConfigJson json)
    {
        string kind = json.Text("normalize_activations", "none");
        return kind switch
        {
            "none" => InputNormalization.None,
            "layer_norm" => InputNormalization.LayerNorm,
            "constant_norm_rescale" => InputNormalization.ConstantNorm,
            _ => throw json.Wrong(
                "normalize_activations",
                $"'{kind}'",
                "none, layer_norm or constant_norm_rescale",
                "Fold the factor into the weights first (SAELens does so when it saves a trained SAE)"
            ),
        };
    }

    private static SaeOrigin Origin(ConfigJson json) =>
        json.Section("metadata") is { } metadata
            ? new SaeOrigin(
                metadata.Text("model_name", ""),
                metadata.Text("hook_name", ""),
                metadata.Count("context_size", 0),
                metadata.Text("dataset_path", ""),
                metadata.Flag("prepend_bos", true)
            )
            {
                TargetHookName = metadata.Text("hook_name_out", "") is { Length: > 0 } target ? target : null,
            }
            : new SaeOrigin();

    private static SaeTraining Training(ConfigJson json, Autoencoder sae)
    {
        var metadata = json.Section("metadata");
        var details = metadata?.Section("training_architecture_details");
        int? k = sae is TopKAutoencoder topK ? topK.K : details?.OptionalId("k");
        return new SaeTraining(
            metadata?.Text("training_architecture", sae.Architecture) ?? sae.Architecture,
            k,
            details?.Counts("group_sizes")
        );
    }

    private static JsonObject Config(SaeFile file)
    {
        var (sae, origin, training) = (file.Sae, file.Origin, file.Training);
        var json = new JsonObject
        {
            ["architecture"] = ArchitectureOf(file),
            ["d_in"] = sae.Width,
            ["d_sae"] = sae.Features,
        };
        if (origin.TargetHookName is not null)
        {
            json["d_out"] = sae.Width;
        }
        if (sae is TopKAutoencoder topK)
        {
            json["k"] = topK.K;
            json["rescale_acts_by_decoder_norm"] = false;
        }
        json["dtype"] = "float32";
        json["device"] = "cpu";
        json["apply_b_dec_to_input"] = sae.SubtractsDecoderBias;
        json["normalize_activations"] = sae.Normalization switch
        {
            InputNormalization.LayerNorm => "layer_norm",
            InputNormalization.ConstantNorm => "constant_norm_rescale",
            _ => "none",
        };
        json["reshape_activations"] = "none";
        var metadata = new JsonObject
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
            ["training_architecture"] = training.Architecture,
        };
        if (origin.TargetHookName is { } target)
        {
            metadata["hook_name_out"] = target;
        }
        if (training.Architecture != sae.Architecture)
        {
            metadata["training_architecture_details"] = new JsonObject
            {
                ["k"] = training.K,
                ["group_sizes"] = training.GroupSizes is { } sizes
                    ? new JsonArray([.. sizes.Select(size => (JsonNode)size)])
                    : null,
            };
        }
        json["metadata"] = metadata;
        return json;
    }

    private static void Require(ConfigJson json, string key, int supported, string remedy)
    {
        int found = json.Size(key);
        if (found != supported)
        {
            throw json.Wrong(key, $"{found}", $"{supported}", remedy);
        }
    }

    private static void Require(ConfigJson json, string key, string supported, string remedy)
    {
        string found = json.Text(key, supported);
        if (found != supported)
        {
            throw json.Wrong(key, $"'{found}'", supported, remedy);
        }
    }
}
