using System.Globalization;
using System.Text;

namespace Pipeline.Shared.Configuration;

/// <summary>One sparse autoencoder. Defaults are those of TopK with AuxK in Scaling and evaluating sparse autoencoders;
/// D is the width of the activations.</summary>
public sealed record SaeConfig : IValidated
{
    /// <summary>The kind of autoencoder.</summary>
    public required Architecture Architecture { get; init; }

    /// <summary>The name of its folder. Default: null, built from what sets it apart; see <see
    /// cref="Identifier"/>.</summary>
    [FolderName]
    public string? Name { get; init; }

    /// <summary>Features as a multiple of D. Default 8. Ignored when <see cref="Features"/> is given.</summary>
    [AtLeast(1)]
    public int Expansion { get; init; } = 8;

    /// <summary>F, the number of features. Default: null, <see cref="Expansion"/> times D.</summary>
    [AtLeast(1)]
    public int? Features { get; init; }

    /// <summary>K, the features active per row; at most F. Required for topk.</summary>
    [AtLeast(1)]
    public required int K { get; init; }

    /// <summary>The weight of the auxiliary loss that revives dead latents. Default 1/32; 0 switches it off.</summary>
    [AtLeast(0)]
    public double AuxCoefficient { get; init; } = 1.0 / 32;

    /// <summary>Dead latents that reconstruct the residual in the auxiliary loss. Default: null, half of D. Ignored
    /// when <see cref="AuxCoefficient"/> is 0.</summary>
    [AtLeast(1)]
    public int? AuxK { get; init; }

    /// <summary>Tokens without firing after which a latent counts as dead. Default 10M.</summary>
    [AtLeast(1)]
    public TokenCount DeadAfter { get; init; } = new(10_000_000);

    /// <summary>The peak learning rate. Default: null, 2e-4 / √(F / 2^14).</summary>
    [Above(0)]
    public double? LearningRate { get; init; }

    /// <summary>The fraction of steps over which the learning rate rises from 0. Default 0.05.</summary>
    [Between(0, 1)]
    public double Warmup { get; init; } = 0.05;

    /// <summary>The last fraction of steps, over which the learning rate falls to 0. Default 0.2.</summary>
    [Between(0, 1)]
    public double Decay { get; init; } = 0.2;

    /// <summary>The largest norm of the gradient; longer ones are scaled down. Default 1; 0 switches clipping
    /// off.</summary>
    [AtLeast(0)]
    public double GradientClip { get; init; } = 1.0;

    /// <summary>The seed of this autoencoder's initial weights. Default: null, the pipeline's.</summary>
    public ulong? Seed { get; init; }

    /// <summary>F, the number of features.</summary>
    /// <exception cref="ConfigurationException"><see cref="Expansion"/> times D is beyond int.</exception>
    public int FeaturesFor(int dModel) =>
        FeatureCount(dModel) is var features && features <= int.MaxValue
            ? (int)features
            : throw new ConfigurationException(TooManyFeatures(dModel, "saes").ToString());

    /// <summary>The dead latents of the auxiliary loss: <see cref="AuxK"/>, else half of D; never more than
    /// F.</summary>
    public int AuxKFor(int dModel) => Math.Min(AuxK ?? DefaultAuxK(dModel), FeaturesFor(dModel));

    /// <summary>The peak learning rate: <see cref="LearningRate"/>, else 2e-4 / √(F / 2^14).</summary>
    public double LearningRateFor(int dModel) => LearningRate ?? DefaultLearningRate(dModel);

    /// <summary>The folder's name: <see cref="Name"/>, else architecture, features and k (<c>topk-1024-k32</c>) and
    /// after them every setting that differs from its default (<c>topk-1024-k32-lr0.001-seed7</c>).</summary>
    public string Identifier(int dModel)
    {
        if (Name is not null)
        {
            return Name;
        }
        var defaults = new SaeConfig { Architecture = Architecture, K = K };
        var identifier = new StringBuilder();
        identifier.Append(CultureInfo.InvariantCulture, $"{Spelling.Of(Architecture)}-{FeaturesFor(dModel)}-k{K}");
        AppendUnless("aux", AuxCoefficient, defaults.AuxCoefficient);
        AppendUnless("auxk", AuxK ?? DefaultAuxK(dModel), DefaultAuxK(dModel));
        AppendUnless("dead", DeadAfter, defaults.DeadAfter);
        AppendUnless("lr", LearningRateFor(dModel), DefaultLearningRate(dModel));
        AppendUnless("warmup", Warmup, defaults.Warmup);
        AppendUnless("decay", Decay, defaults.Decay);
        AppendUnless("clip", GradientClip, defaults.GradientClip);
        AppendUnless("seed", Seed, defaults.Seed);
        return identifier.ToString();

        void AppendUnless<T>(string label, T value, T usual)
        {
            if (!EqualityComparer<T>.Default.Equals(value, usual))
            {
                string spelled = string.Create(CultureInfo.InvariantCulture, $"{value}")
                    .Replace("E-", "e-", StringComparison.Ordinal);
                identifier.Append('-').Append(label).Append(spelled);
            }
        }
    }

    /// <inheritdoc/>
    public IEnumerable<Fault> Validate(string path)
    {
        if (Warmup + Decay > 1)
        {
            yield return new Fault(
                ConfigPath.Join(path, "warmup"),
                FormattableString.Invariant($"{Warmup}, with a decay of {Decay}"),
                "both together to be at most 1",
                "Lower one of them"
            );
        }
        if (Features is { } features && K > features)
        {
            yield return TooManyActive(features, path);
        }
    }

    /// <summary>What takes the model's width to tell: more active features than there are, more features than an int
    /// counts.</summary>
    /// <param name="dModel">D, the width of the activations.</param>
    /// <param name="path">This record's path, <c>train.saes[0]</c>.</param>
    public IEnumerable<Fault> Validate(int dModel, string path)
    {
        long features = FeatureCount(dModel);
        if (features > int.MaxValue)
        {
            yield return TooManyFeatures(dModel, path);
        }
        else if (K > features)
        {
            yield return TooManyActive(features, path);
        }
    }

    private long FeatureCount(int dModel) => Features ?? (long)Expansion * dModel;

    private double DefaultLearningRate(int dModel) => 2e-4 / Math.Sqrt(FeatureCount(dModel) / 16_384.0);

    private static int DefaultAuxK(int dModel) => Math.Max(1, dModel / 2);

    private Fault TooManyActive(long features, string path) =>
        new(ConfigPath.Join(path, "k"), $"{K}", $"at most the {features} features", "Lower k or raise the features");

    private Fault TooManyFeatures(int dModel, string path) =>
        new(
            ConfigPath.Join(path, "expansion"),
            FormattableString.Invariant($"{Expansion}, {FeatureCount(dModel)} features at width {dModel}"),
            $"at most {int.MaxValue} features",
            "Lower the expansion"
        );
}
