using System.Globalization;
using System.Text;

namespace Pipeline.Shared.Configuration;

/// <summary>One sparse autoencoder. Defaults are those of TopK with AuxK in Scaling and evaluating sparse autoencoders;
/// D is the width of the activations.</summary>
public sealed record SaeConfig : IValidated
{
    private static readonly double[] DefaultGroups = [1.0 / 32, 1.0 / 16, 1.0 / 8, 1.0 / 4, 17.0 / 32];

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

    /// <summary>K, the features active per row (on average, for batchtopk); at most F. Required for the topk family,
    /// refused elsewhere.</summary>
    [AtLeast(1)]
    public int? K { get; init; }

    /// <summary>λ, the weight of the L1 penalty. Required for standard, standard-april and gated, refused
    /// elsewhere.</summary>
    [Above(0)]
    public double? L1 { get; init; }

    /// <summary>λ, the weight of the L0 penalty. Required for jumprelu, refused elsewhere.</summary>
    [Above(0)]
    public double? L0 { get; init; }

    /// <summary>θ that jumprelu's latents start from. Default 0.001. Ignored elsewhere.</summary>
    [Above(0)]
    public double Threshold { get; init; } = 0.001;

    /// <summary>ε, the width of jumprelu's straight-through estimators. Default 0.001. Ignored elsewhere.</summary>
    [Above(0)]
    public double Bandwidth { get; init; } = 0.001;

    /// <summary>The fraction of steps over which the L1 or L0 penalty rises from 0. Default 0.05. Ignored by the topk
    /// family.</summary>
    [Between(0, 1)]
    public double SparsityWarmup { get; init; } = 0.05;

    /// <summary>Shares of the dictionary that matryoshka-batchtopk's groups take, first group first; they sum to 1.
    /// Default: null, 1/32, 1/16, 1/8, 1/4 and the rest. Ignored elsewhere.</summary>
    [NotEmpty]
    public IReadOnlyList<double>? Groups { get; init; }

    /// <summary>What activations are multiplied by in training; the factor is folded into the SAE that is saved.
    /// Default: null, none for the topk family, unit for jumprelu, sqrt-d elsewhere.</summary>
    public ActivationScale? Scale { get; init; }

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

    /// <summary>The peak learning rate. Default: null, 2e-4 / √(F / 2^14) for the topk family, 7e-5 for jumprelu, 5e-5
    /// elsewhere.</summary>
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

    /// <summary>The peak learning rate: <see cref="LearningRate"/>, else the architecture's.</summary>
    public double LearningRateFor(int dModel) => LearningRate ?? DefaultLearningRate(dModel);

    /// <summary>The folder's name: <see cref="Name"/>, else architecture, features and k (<c>topk-1024-k32</c>) and
    /// after them every setting that differs from its default (<c>topk-1024-k32-lr0.001-seed7</c>).</summary>
    public string Identifier(int dModel)
    {
        if (Name is not null)
        {
            return Name;
        }
        var defaults = new SaeConfig { Architecture = Architecture };
        var identifier = new StringBuilder();
        identifier.Append(CultureInfo.InvariantCulture, $"{Spelling.Of(Architecture)}-{FeaturesFor(dModel)}-");
        string sparsity =
            IsKSparse ? string.Create(CultureInfo.InvariantCulture, $"k{K}")
            : Architecture == Architecture.JumpRelu ? string.Create(CultureInfo.InvariantCulture, $"l0-{L0}")
            : string.Create(CultureInfo.InvariantCulture, $"l1-{L1}");
        identifier.Append(sparsity);
        AppendUnless("threshold", Threshold, defaults.Threshold);
        AppendUnless("bandwidth", Bandwidth, defaults.Bandwidth);
        AppendUnless("sparsitywarmup", SparsityWarmup, defaults.SparsityWarmup);
        AppendUnless("groups", Join(GroupsUsed), Join(defaults.GroupsUsed));
        AppendUnless("scale", Spelling.Of(ScaleUsed), Spelling.Of(defaults.ScaleUsed));
        AppendUnless("aux", AuxCoefficient, defaults.AuxCoefficient);
        AppendUnless("auxk", AuxK ?? DefaultAuxK(dModel), DefaultAuxK(dModel));
        AppendUnless("dead", DeadAfter, defaults.DeadAfter);
        AppendUnless("lr", LearningRateFor(dModel), DefaultLearningRate(dModel));
        AppendUnless("warmup", Warmup, defaults.Warmup);
        AppendUnless("decay", Decay, defaults.Decay);
        AppendUnless("clip", GradientClip, defaults.GradientClip);
        AppendUnless("seed", Seed, defaults.Seed);
        return identifier.ToString();

        static string Join(IReadOnlyList<double> shares) =>
            string.Join('+', shares.Select(share => share.ToString("G4", CultureInfo.InvariantCulture)));

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
        foreach (var fault in ValidateSparsity(path))
        {
            yield return fault;
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

    /// <summary>Whether k says how many latents fire.</summary>
    public bool IsKSparse =>
        Architecture is Architecture.TopK or Architecture.BatchTopK or Architecture.MatryoshkaBatchTopK;

    /// <summary><see cref="Scale"/>, else the architecture's.</summary>
    public ActivationScale ScaleUsed =>
        Scale
        ?? (
            IsKSparse ? ActivationScale.None
            : Architecture == Architecture.JumpRelu ? ActivationScale.Unit
            : ActivationScale.SqrtD
        );

    private IReadOnlyList<double> GroupsUsed => Groups ?? DefaultGroups;

    /// <summary>Latents of each Matryoshka group; the last takes what rounding leaves.</summary>
    public IReadOnlyList<int> GroupSizesFor(int dModel)
    {
        int features = FeaturesFor(dModel);
        int[] sizes = [.. GroupsUsed.Select(share => (int)(share * features))];
        sizes[^1] += features - sizes.Sum();
        return sizes;
    }

    private IEnumerable<Fault> ValidateSparsity(string path)
    {
        string name = Spelling.Of(Architecture);
        bool usesL0 = Architecture == Architecture.JumpRelu;
        foreach (
            var (key, given, used) in new[]
            {
                ("k", (double?)K, IsKSparse),
                ("l1", L1, !IsKSparse && !usesL0),
                ("l0", L0, usesL0),
            }
        )
        {
            if (given is null && used)
            {
                yield return new Fault(
                    ConfigPath.Join(path, key),
                    "nothing",
                    $"a number, which {name} needs",
                    "Add it"
                );
            }
            else if (given is not null && !used)
            {
                yield return new Fault(
                    ConfigPath.Join(path, key),
                    string.Create(CultureInfo.InvariantCulture, $"{given}"),
                    $"nothing: {name} does not use it",
                    "Remove it"
                );
            }
        }
        if (GroupsUsed.Any(share => share <= 0) || Math.Abs(GroupsUsed.Sum() - 1) > 1e-6)
        {
            yield return new Fault(
                ConfigPath.Join(path, "groups"),
                string.Join(", ", GroupsUsed.Select(share => share.ToString(CultureInfo.InvariantCulture))),
                "shares above 0 that sum to 1",
                "Correct them"
            );
        }
    }

    private long FeatureCount(int dModel) => Features ?? (long)Expansion * dModel;

    private double DefaultLearningRate(int dModel) =>
        IsKSparse ? 2e-4 / Math.Sqrt(FeatureCount(dModel) / 16_384.0)
        : Architecture == Architecture.JumpRelu ? 7e-5
        : 5e-5;

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
