using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Tensors.Pickle;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>
/// OpenAI's sparse_autoencoder: one state dict. Its loader layer-normalises the input of every TopK file and of no ReLU
/// file. A TopK SAE on plain activations is written with the key <c>normalize</c> = False, which that loader refuses by
/// name instead of silently computing another function; with <c>strict=False</c> and <c>autoencoder.normalize = False</c>
/// it loads right.
/// </summary>
public sealed class OpenAiFormat : ISaeFormat
{
    public const string WeightsName = "autoencoder.pt";
    private const string NormalizeKey = "normalize";

    public string Name => "openai";

    public bool Recognizes(string path) =>
        File.Exists(path)
            ? path.EndsWith(".pt", StringComparison.Ordinal)
            : File.Exists(Path.Combine(path, WeightsName));

    public SaeFile Load(string path)
    {
        using var file = StateDictFile.Open(Directory.Exists(path) ? Path.Combine(path, WeightsName) : path);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        if (!file.Shapes.TryGetValue("encoder.weight", out long[]? shape) || shape.Length != 2)
        {
            throw Corrupt(file, "encoder.weight", "no matrix", "an SAE of OpenAI's sparse_autoencoder");
        }
        var (features, width) = (checked((int)shape[0]), checked((int)shape[1]));
        var weights = new SaeWeights(file, "encoder.weight", width, features);
        var W_enc = weights.FeaturesByWidth("encoder.weight");
        var b_enc = weights.PerFeature("latent_bias");
        var W_dec = weights.WidthByFeatures("decoder.weight");
        var b_dec = weights.PerWidth("pre_bias");
        string activation = file.Values.GetValueOrDefault("activation") as string ?? "ReLU";
        Autoencoder sae = activation switch
        {
            "ReLU" => new StandardAutoencoder(W_enc, b_enc, W_dec, b_dec),
            "TopK" => new TopKAutoencoder(W_enc, b_enc, W_dec, b_dec, K(file, features)),
            _ => throw Corrupt(file, "activation", $"'{activation}'", "TopK or ReLU"),
        };
        bool normalizes = file.Values.GetValueOrDefault(NormalizeKey) as bool? ?? activation == "TopK";
        return new SaeFile(
            sae with
            {
                Normalization = normalizes ? InputNormalization.LayerNorm : InputNormalization.None,
            },
            new SaeOrigin(),
            new SaeTraining(sae.Architecture, (sae as TopKAutoencoder)?.K)
        )
        {
            FrequencyF = file.Shapes.ContainsKey("latents_activation_frequency")
                ? weights.PerFeature("latents_activation_frequency")
                : null,
        };
    }

    public IReadOnlyList<ManifestOutput> Save(string folder, SaeFile file)
    {
        ArgumentNullException.ThrowIfNull(file);
        if (file.Sae is not (TopKAutoencoder or StandardAutoencoder))
        {
            throw SaeFormats.CannotSay(Name, $"a {file.Sae.Architecture} SAE", "a topk or standard SAE");
        }
        if (file.Sae.Normalization == InputNormalization.ConstantNorm)
        {
            throw SaeFormats.CannotSay(Name, "an SAE that rescales its input to a constant norm", "layer norm or none");
        }
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var sae = file.Sae.Subtracting(decoderBias: true);
        var b_enc = sae is TopKAutoencoder topK ? topK.b_enc : ((StandardAutoencoder)sae).b_enc;
        var values = new List<(string, object)>
        {
            ("pre_bias", sae.b_dec),
            ("latent_bias", b_enc),
            ("stats_last_nonzero", zeros([sae.Features], int64)),
            ("latents_activation_frequency", file.FrequencyF?.to(float32) ?? zeros([sae.Features])),
            ("latents_mean_square", zeros([sae.Features])),
            ("encoder.weight", sae.W_enc),
            ("decoder.weight", sae.W_dec.t()),
        };
        bool isTopK = sae is TopKAutoencoder;
        values.Add(("activation", isTopK ? "TopK" : "ReLU"));
        if (sae is TopKAutoencoder { K: var k })
        {
            values.Add(
                ("activation_state_dict", new List<(string, object)> { ("k", (long)k), ("postact_fn", "ReLU") })
            );
        }
        bool normalizes = sae.Normalization == InputNormalization.LayerNorm;
        if (normalizes != isTopK)
        {
            values.Add((NormalizeKey, normalizes));
        }
        var digest = AtomicFile.Write(
            Path.Combine(folder, WeightsName),
            stream => StateDictWriter.Write(stream, "autoencoder", values)
        );
        return [ManifestOutput.Of(WeightsName, digest)];
    }

    private static int K(StateDictFile file, int features) =>
        file.Values.GetValueOrDefault("activation_state_dict") is PickledDictionary state
        && state.GetValueOrDefault("k") is long k
        && k >= 1
        && k <= features
            ? (int)k
            : throw Corrupt(file, "activation_state_dict.k", "no k, or one beyond the latents", $"1 to {features}");

    private static CorruptArtifactException Corrupt(StateDictFile file, string field, string found, string expected) =>
        new(new Fault($"{file.Path}: {field}", found, expected, "Take the file as it was published").ToString());
}
