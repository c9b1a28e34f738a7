using System.Globalization;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>dictionary_learning's folder: ae.pt (a state dict) and config.json.</summary>
public sealed class DictionaryLearningFormat : ISaeFormat
{
    private const string WeightsName = "ae.pt";
    private const string ConfigName = "config.json";
    private const double Unset = -1; // a threshold nobody has measured

    public string Name => "dictionary_learning";

    public bool Recognizes(string path) => File.Exists(Path.Combine(path, WeightsName));

    public SaeFile Load(string path)
    {
        var config = ConfigJson.Read(Path.Combine(path, ConfigName));
        var trainer =
            config.Section("trainer")
            ?? throw config.Wrong("trainer", "nothing", "the trainer's settings", "Take the config.json beside ae.pt");
        string kind = trainer.Text("dict_class");
        using var file = StateDictFile.Open(Path.Combine(path, WeightsName));
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var weights = new SaeWeights(file, ConfigName, trainer.Size("activation_dim"), trainer.Size("dict_size"));
        Autoencoder sae = kind switch
        {
            "AutoEncoder" => new StandardAutoencoder(
                weights.FeaturesByWidth("encoder.weight"),
                weights.PerFeature("encoder.bias"),
                weights.WidthByFeatures("decoder.weight"),
                weights.PerWidth("bias")
            ),
            "AutoEncoderNew" => new StandardAutoencoder(
                weights.FeaturesByWidth("encoder.weight"),
                weights.PerFeature("encoder.bias"),
                weights.WidthByFeatures("decoder.weight"),
                weights.PerWidth("decoder.bias")
            )
            {
                SubtractsDecoderBias = false,
            },
            "GatedAutoEncoder" => new GatedAutoencoder(
                weights.FeaturesByWidth("encoder.weight"),
                weights.PerFeature("gate_bias"),
                weights.PerFeature("r_mag"),
                weights.PerFeature("mag_bias"),
                weights.WidthByFeatures("decoder.weight"),
                weights.PerWidth("decoder_bias")
            ),
            "JumpReluAutoEncoder" => new JumpReluAutoencoder(
                weights.WidthByFeatures("W_enc"),
                weights.PerFeature("b_enc"),
                weights.PerFeature("threshold"),
                weights.FeaturesByWidth("W_dec"),
                weights.PerWidth("b_dec")
            )
            {
                SubtractsDecoderBias = false,
            },
            "AutoEncoderTopK" => new TopKAutoencoder(
                weights.FeaturesByWidth("encoder.weight"),
                weights.PerFeature("encoder.bias"),
                weights.WidthByFeatures("decoder.weight"),
                weights.PerWidth("b_dec"),
                K(file, trainer)
            ),
            "BatchTopKSAE" => new JumpReluAutoencoder(
                weights.FeaturesByWidth("encoder.weight"),
                weights.PerFeature("encoder.bias"),
                SharedThreshold(file, trainer),
                weights.WidthByFeatures("decoder.weight"),
                weights.PerWidth("b_dec")
            ),
            "MatryoshkaBatchTopKSAE" => new JumpReluAutoencoder(
                weights.WidthByFeatures("W_enc"),
                weights.PerFeature("b_enc"),
                SharedThreshold(file, trainer),
                weights.FeaturesByWidth("W_dec"),
                weights.PerWidth("b_dec")
            ),
            _ => throw trainer.Wrong(
                "dict_class",
                $"'{kind}'",
                "AutoEncoder, AutoEncoderNew, GatedAutoEncoder, JumpReluAutoEncoder, AutoEncoderTopK, BatchTopKSAE or "
                    + "MatryoshkaBatchTopKSAE",
                "SAEs of this kind are not supported"
            ),
        };
        return new SaeFile(sae, Origin(config, trainer), Training(kind, file, trainer));
    }

    public IReadOnlyList<ManifestOutput> Save(string folder, SaeFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (file.Sae.Normalization != InputNormalization.None)
        {
            throw SaeFormats.CannotSay(Name, "an SAE that normalises its input", "one that does not");
        }
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var (kind, values) = Describe(file);
        var weights = AtomicFile.Write(
            Path.Combine(folder, WeightsName),
            stream => StateDictWriter.Write(stream, "ae", values)
        );
        var config = AtomicFile.WriteText(
            Path.Combine(folder, ConfigName),
            Config(kind, file).ToJsonString(new JsonSerializerOptions { WriteIndented = true }) + "\n"
        );
        return [ManifestOutput.Of(WeightsName, weights), ManifestOutput.Of(ConfigName, config)];
    }

    /// <summary>The class that does what the SAE does, and its state dict.</summary>
    private static (string Kind, List<(string, object)> Values) Describe(SaeFile file)
    {
        bool subtracts = file.Sae is not JumpReluAutoencoder || IsBatchTopK(file);
        var sae = file.Sae is StandardAutoencoder ? file.Sae : file.Sae.Subtracting(subtracts);
        switch (sae)
        {
            case StandardAutoencoder standard:
                return standard.SubtractsDecoderBias
                    ? ("AutoEncoder", [("bias", sae.b_dec), .. EncoderDecoder(sae, standard.b_enc)])
                    : ("AutoEncoderNew", [.. EncoderDecoder(sae, standard.b_enc), ("decoder.bias", sae.b_dec)]);
            case GatedAutoencoder gated:
                return (
                    "GatedAutoEncoder",
                    [
                        ("decoder_bias", sae.b_dec),
                        ("r_mag", gated.r_mag),
                        ("gate_bias", gated.b_gate),
                        ("mag_bias", gated.b_mag),
                        ("encoder.weight", sae.W_enc),
                        ("decoder.weight", sae.W_dec.t()),
                    ]
                );
            case TopKAutoencoder topK:
                return (
                    "AutoEncoderTopK",
                    [
                        ("b_dec", sae.b_dec),
                        ("k", Scalar(topK.K)),
                        ("threshold", tensor((float)Unset)),
                        .. EncoderDecoder(sae, topK.b_enc),
                    ]
                );
            case JumpReluAutoencoder jump when IsBatchTopK(file):
                var (k, threshold) = (Scalar(file.Training.K!.Value), jump.Threshold.narrow(0, 0, 1).reshape([]));
                return file.Training.GroupSizes is { } sizes
                    ? (
                        "MatryoshkaBatchTopKSAE",
                        [
                            .. Matrices(sae, jump.b_enc),
                            ("k", k),
                            ("threshold", threshold),
                            ("group_sizes", tensor(sizes.Select(size => (long)size).ToArray())),
                        ]
                    )
                    : (
                        "BatchTopKSAE",
                        [("b_dec", sae.b_dec), ("k", k), ("threshold", threshold), .. EncoderDecoder(sae, jump.b_enc)]
                    );
            default:
                var other = (JumpReluAutoencoder)sae;
                return ("JumpReluAutoEncoder", [.. Matrices(sae, other.b_enc), ("threshold", other.Threshold)]);
        }
    }

    private static (string, object)[] EncoderDecoder(Autoencoder sae, Tensor b_enc) =>
        [("encoder.weight", sae.W_enc), ("encoder.bias", b_enc), ("decoder.weight", sae.W_dec.t())];

    private static (string, object)[] Matrices(Autoencoder sae, Tensor b_enc) =>
        [("W_enc", sae.W_enc.t()), ("b_enc", b_enc), ("W_dec", sae.W_dec), ("b_dec", sae.b_dec)];

    private static Tensor Scalar(int value) => tensor(value, ScalarType.Int32);

    /// <summary>Trained as BatchTopK, k known, and still with one threshold for all latents.</summary>
    private static bool IsBatchTopK(SaeFile file) =>
        file.Sae is JumpReluAutoencoder jump
        && file.Training is { Architecture: "batchtopk" or "matryoshka_batchtopk", K: not null }
        && (jump.Threshold == jump.Threshold.narrow(0, 0, 1)).all().item<bool>();

    private static int K(StateDictFile file, ConfigJson trainer)
    {
        int k = file.Shapes.ContainsKey("k") ? (int)file.Load("k").to(int64).item<long>() : trainer.Size("k");
        int features = trainer.Size("dict_size");
        return k >= 1 && k <= features
            ? k
            : throw trainer.Wrong("k", $"{k}", $"1 to dict_size = {features}", "Correct the file");
    }

    /// <summary>BatchTopK's threshold for each latent. Unset, it lets every positive one pass, as the library does.</summary>
    private static Tensor SharedThreshold(StateDictFile file, ConfigJson trainer) =>
        file.LoadFloat32("threshold", ConfigName)
            .expand(trainer.Size("dict_size"))
            .contiguous()
            .DetachFromDisposeScope();

    private static SaeTraining Training(string kind, StateDictFile file, ConfigJson trainer) =>
        kind switch
        {
            "AutoEncoder" or "AutoEncoderNew" => new("standard"),
            "GatedAutoEncoder" => new("gated"),
            "JumpReluAutoEncoder" => new("jumprelu"),
            "AutoEncoderTopK" => new("topk", K(file, trainer)),
            "BatchTopKSAE" => new("batchtopk", K(file, trainer)),
            _ => new(
                "matryoshka_batchtopk",
                K(file, trainer),
                [.. file.Load("group_sizes").to(int64).data<long>().Select(size => checked((int)size))]
            ),
        };

    private static SaeOrigin Origin(ConfigJson config, ConfigJson trainer)
    {
        int layer = trainer.Count("layer", 0);
        string module = trainer.Text("submodule_name", "");
        string part =
            module.StartsWith("mlp_out", StringComparison.Ordinal) ? "mlp_out"
            : module.StartsWith("attention_out", StringComparison.Ordinal) ? "attn_out"
            : "resid_post";
        return new SaeOrigin(
            trainer.Text("lm_name", ""),
            string.Create(CultureInfo.InvariantCulture, $"blocks.{layer}.hook_{part}"),
            config.Section("buffer")?.Count("ctx_len", 0) ?? 0
        );
    }

    private static JsonObject Config(string kind, SaeFile file)
    {
        string[] hook = file.Origin.HookName.Split('.');
        int layer = hook.Length == 3 && int.TryParse(hook[1], CultureInfo.InvariantCulture, out int l) ? l : 0;
        string part = hook.Length == 3 ? hook[2] : "hook_resid_post";
        string module = part switch
        {
            "hook_mlp_out" => "mlp_out_layer_",
            "hook_attn_out" => "attention_out_layer_",
            _ => "resid_post_layer_",
        };
        var trainer = new JsonObject
        {
            ["dict_class"] = kind,
            ["activation_dim"] = file.Sae.Width,
            ["dict_size"] = file.Sae.Features,
            ["k"] = file.Training.K,
            ["layer"] = layer,
            ["lm_name"] = file.Origin.ModelName,
            ["submodule_name"] = string.Create(CultureInfo.InvariantCulture, $"{module}{layer}"),
        };
        if (file.Training.GroupSizes is { } sizes)
        {
            double features = file.Sae.Features;
            trainer["group_fractions"] = new JsonArray([.. sizes.Select(size => (JsonNode)(size / features))]);
        }
        var buffer = new JsonObject { ["d_submodule"] = file.Sae.Width, ["ctx_len"] = file.Origin.ContextSize };
        return new JsonObject { ["trainer"] = trainer, ["buffer"] = buffer };
    }
}
