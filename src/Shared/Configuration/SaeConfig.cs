using System.Globalization;
using System.Text;
using static Pipeline.Shared.Configuration.Architecture;

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

    /// <summary>The harvested hooks it is trained at, as harvest.hooks may write them. Default: null, every one.</summary>
    [NotEmpty]
    public IReadOnlyList<string>? Hooks { get; init; }

    /// <summary>Whether it reconstructs a block's MLP output from the residual stream before that MLP: it is trained at
    /// hook_resid_mid, the block's hook_mlp_out is harvested too, and spliced in there. Default false.</summary>
    public bool Transcoder { get; init; }

    /// <summary>Whether a transcoder adds a linear map of its input to the reconstruction. Default false.</summary>
    public bool Skip { get; init; }

    /// <summary>Features as a multiple of D. Default 8. Ignored when <see cref="Features"/> is given.</summary>
    [AtLeast(1)]
    public int Expansion { get; init; } = 8;

    /// <summary>F, the number of features. Default: null, <see cref="Expansion"/> times D.</summary>
    [AtLeast(1)]
    public int? Features { get; init; }

    /// <summary>K, the features active per row (on average, for batchtopk); at most F. Required for the topk
    /// family.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Architecture), TopK, BatchTopK, MatryoshkaBatchTopK)]
    public int? K { get; init; }

    /// <summary>k of the first step, from which it falls linearly to <see cref="K"/>; at most F. Default: null, k is
    /// the same throughout.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Architecture), TopK, BatchTopK, MatryoshkaBatchTopK)]
    public int? KFrom { get; init; }

    /// <summary>The first fraction of steps, over which k falls from <see cref="KFrom"/>. Default 0.25. Ignored when
    /// that is not given.</summary>
    [Between(0, 1)]
    [UsedWhen(nameof(Architecture), TopK, BatchTopK, MatryoshkaBatchTopK)]
    public double KAnneal { get; init; } = 0.25;

    /// <summary>The weight of a second reconstruction, from the 4k largest latents (MultiTopK; its paper takes 0.125).
    /// Default 0, none.</summary>
    [AtLeast(0)]
    [UsedWhen(nameof(Architecture), TopK)]
    public double MultiTopK { get; init; }

    /// <summary>λ, the weight of the L1 penalty. Required for standard, standard-april, p-anneal and gated.</summary>
    [Above(0)]
    [UsedWhen(nameof(Architecture), Standard, StandardApril, PAnneal, Gated)]
    public double? L1 { get; init; }

    /// <summary>λ, the weight of the L0 penalty. Required for jumprelu.</summary>
    [Above(0)]
    [UsedWhen(nameof(Architecture), JumpRelu)]
    public double? L0 { get; init; }

    /// <summary>p at the end of p-anneal's training, from 1 at its beginning. Default 0.2.</summary>
    [Above(0)]
    [Between(0, 1)]
    [UsedWhen(nameof(Architecture), PAnneal)]
    public double PEnd { get; init; } = 0.2;

    /// <summary>The first fraction of steps, over which p stays 1. Default 0.25.</summary>
    [Between(0, 1)]
    [UsedWhen(nameof(Architecture), PAnneal)]
    public double PFrom { get; init; } = 0.25;

    /// <summary>θ that jumprelu's latents start from. Default 0.001.</summary>
    [Above(0)]
    [UsedWhen(nameof(Architecture), JumpRelu)]
    public double Threshold { get; init; } = 0.001;

    /// <summary>ε, the width of jumprelu's straight-through estimators. Default 0.001.</summary>
    [Above(0)]
    [UsedWhen(nameof(Architecture), JumpRelu)]
    public double Bandwidth { get; init; } = 0.001;

    /// <summary>The fraction of steps over which the L1 or L0 penalty rises from 0. Default 0.05.</summary>
    [Between(0, 1)]
    [UsedWhen(nameof(Architecture), Standard, StandardApril, PAnneal, Gated, JumpRelu)]
    public double SparsityWarmup { get; init; } = 0.05;

    /// <summary>Shares of the dictionary that matryoshka-batchtopk's groups take, first group first; they sum to 1.
    /// Default: null, 1/32, 1/16, 1/8, 1/4 and the rest.</summary>
    [NotEmpty]
    [UsedWhen(nameof(Architecture), MatryoshkaBatchTopK)]
    public IReadOnlyList<double>? Groups { get; init; }

    /// <summary>What activations are multiplied by in training, a transcoder's inputs and targets each by their own
    /// factor; the factors are folded into the SAE that is saved. Default: null, none for the topk family, unit for
    /// jumprelu and for transcoders of the topk family, sqrt-d elsewhere.</summary>
    public ActivationScale? Scale { get; init; }

    /// <summary>What is done for latents that no longer fire. Default: null, auxk for the topk family, none elsewhere;
    /// resample is for standard, p-anneal and gated.</summary>
    public DeadLatents? Dead { get; init; }

    /// <summary>The weight of auxk's loss. Default 1/32.</summary>
    [Above(0)]
    [UsedWhen(nameof(Architecture), TopK, BatchTopK, MatryoshkaBatchTopK)]
    [UsedWhen(nameof(Dead), null, DeadLatents.AuxK)]
    public double AuxCoefficient { get; init; } = 1.0 / 32;

    /// <summary>Dead latents that reconstruct the residual in auxk's loss. Default: null, half of D.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Architecture), TopK, BatchTopK, MatryoshkaBatchTopK)]
    [UsedWhen(nameof(Dead), null, DeadLatents.AuxK)]
    public int? AuxK { get; init; }

    /// <summary>Tokens without firing after which a latent counts as dead, in the metrics and for auxk. Default
    /// 10M.</summary>
    [AtLeast(1)]
    public TokenCount DeadAfter { get; init; } = new(10_000_000);

    /// <summary>Tokens between resamplings; what did not fire in the second half of them is resampled. Default: null,
    /// an eighth of the training (Towards Monosemanticity: 25,000 steps of 8,192, 205M).</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Dead), DeadLatents.Resample)]
    public TokenCount? ResampleEvery { get; init; }

    /// <summary>How many times latents are resampled. Default 4.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Dead), DeadLatents.Resample)]
    public int Resamplings { get; init; } = 4;

    /// <summary>Tokens whose losses are computed, at most the harvest's, to draw the inputs that resampled latents start
    /// from. Default 819,200.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Dead), DeadLatents.Resample)]
    public TokenCount ResampleFrom { get; init; } = new(819_200);

    /// <summary>The peak learning rate. Default: null, 2e-4 / √(F / 2^14) for the topk family, 7e-5 for jumprelu, 5e-5
    /// elsewhere.</summary>
    [Above(0)]
    public double? LearningRate { get; init; }

    /// <summary>The learning rate's course after its warm-up. Default linear.</summary>
    public Schedule Schedule { get; init; } = Schedule.Linear;

    /// <summary>The fraction of steps over which the learning rate rises from 0. Default 0.05.</summary>
    [Between(0, 1)]
    public double Warmup { get; init; } = 0.05;

    /// <summary>The last fraction of steps, over which the learning rate falls to 0. Default 0.2.</summary>
    [Between(0, 1)]
    [UsedWhen(nameof(Schedule), Schedule.Linear)]
    public double Decay { get; init; } = 0.2;

    /// <summary>Half cosines that cosine-restarts goes through. Default 4.</summary>
    [AtLeast(1)]
    [UsedWhen(nameof(Schedule), Schedule.CosineRestarts)]
    public int Cycles { get; init; } = 4;

    /// <summary>The largest norm of the gradient; longer ones are scaled down. Default 1; 0 switches clipping
    /// off.</summary>
    [AtLeast(0)]
    public double GradientClip { get; init; } = 1.0;

    /// <summary>Training end to end after training on activations. Default: null, none.</summary>
    public FinetuneConfig? Finetune { get; init; }

    /// <summary>The seed of this autoencoder's initial weights and resampling. Default: null, the pipeline's. The order
    /// of the activations is the pipeline's in any case.</summary>
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
        var defaults = new SaeConfig { Architecture = Architecture, Transcoder = Transcoder };
        var identifier = new StringBuilder(Skip ? "skip-" : "");
        identifier.Append(Transcoder ? "transcoder-" : "");
        identifier.Append(CultureInfo.InvariantCulture, $"{Spelling.Of(Architecture)}-{FeaturesFor(dModel)}-");
        identifier.Append(CultureInfo.InvariantCulture, $"{Sparsity.Key}{(IsKSparse ? "" : "-")}{Sparsity.Value}");
        AppendUnless("from", KFrom, defaults.KFrom);
        AppendUnless("anneal", KAnneal, defaults.KAnneal);
        AppendUnless("multi", MultiTopK, defaults.MultiTopK);
        AppendUnless("p", PEnd, defaults.PEnd);
        AppendUnless("pfrom", PFrom, defaults.PFrom);
        AppendUnless("threshold", Threshold, defaults.Threshold);
        AppendUnless("bandwidth", Bandwidth, defaults.Bandwidth);
        AppendUnless("sparsitywarmup", SparsityWarmup, defaults.SparsityWarmup);
        AppendUnless("groups", Join(GroupsUsed), Join(defaults.GroupsUsed));
        AppendUnless("scale", Spelling.Of(ScaleUsed), Spelling.Of(defaults.ScaleUsed));
        AppendUnless("dead-", Spelling.Of(DeadUsed), Spelling.Of(defaults.DeadUsed));
        AppendUnless("aux", AuxCoefficient, defaults.AuxCoefficient);
        AppendUnless("auxk", AuxK ?? DefaultAuxK(dModel), DefaultAuxK(dModel));
        AppendUnless("deadafter", DeadAfter, defaults.DeadAfter);
        AppendUnless("every", ResampleEvery, defaults.ResampleEvery);
        AppendUnless("resamplings", Resamplings, defaults.Resamplings);
        AppendUnless("resamplefrom", ResampleFrom, defaults.ResampleFrom);
        AppendUnless("lr", LearningRateFor(dModel), DefaultLearningRate(dModel));
        AppendUnless("", Spelling.Of(Schedule), Spelling.Of(defaults.Schedule));
        AppendUnless("warmup", Warmup, defaults.Warmup);
        AppendUnless("decay", Decay, defaults.Decay);
        AppendUnless("cycles", Cycles, defaults.Cycles);
        AppendUnless("clip", GradientClip, defaults.GradientClip);
        AppendUnless("finetune", Finetune?.Tokens, null);
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
        if (Schedule == Schedule.Linear && Warmup + Decay > 1)
        {
            yield return new Fault(
                ConfigPath.Join(path, "warmup"),
                FormattableString.Invariant($"{Warmup}, with a decay of {Decay}"),
                "both together to be at most 1",
                "Lower one of them"
            );
        }
        foreach (var fault in Features is { } features ? TooManyActive(features, path) : [])
        {
            yield return fault;
        }
        if (Sparsity.Value is null)
        {
            yield return new Fault(
                ConfigPath.Join(path, Sparsity.Key),
                "nothing",
                $"a number, which {Spelling.Of(Architecture)} needs",
                "Add it"
            );
        }
        if (DeadUsed != DeadLatents.None && DeadUsed != Revival)
        {
            yield return new Fault(
                ConfigPath.Join(path, "dead"),
                Spelling.Of(DeadUsed),
                $"{(Revival == DeadLatents.None ? "" : $"{Spelling.Of(Revival)} or ")}none, all that {Spelling.Of(Architecture)} is defined with",
                "Change it or remove it"
            );
        }
        if (Skip && !Transcoder)
        {
            yield return new Fault(
                ConfigPath.Join(path, "skip"),
                "true without transcoder",
                "a transcoder: an autoencoder that skips would have nothing to learn",
                "Add transcoder: true or remove it"
            );
        }
        if (Transcoder && DeadUsed == DeadLatents.Resample)
        {
            yield return new Fault(
                ConfigPath.Join(path, "dead"),
                "resample on a transcoder",
                "auxk or none: an input is no direction of the MLP's output",
                "Change it or remove it"
            );
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

    /// <summary>What takes the model's width to tell: more active features than there are, more features than an int
    /// counts.</summary>
    /// <param name="dModel">D, the width of the activations.</param>
    /// <param name="path">This record's path, <c>train.saes[0]</c>.</param>
    public IEnumerable<Fault> Validate(int dModel, string path)
    {
        long features = FeatureCount(dModel);
        return features > int.MaxValue ? [TooManyFeatures(dModel, path)] : TooManyActive(features, path);
    }

    /// <summary>Whether k says how many latents fire.</summary>
    public bool IsKSparse => Architecture is TopK or BatchTopK or MatryoshkaBatchTopK;

    /// <summary><see cref="Dead"/>, else the architecture's.</summary>
    public DeadLatents DeadUsed => Dead ?? (IsKSparse ? DeadLatents.AuxK : DeadLatents.None);

    /// <summary><see cref="Scale"/>, else the architecture's.</summary>
    public ActivationScale ScaleUsed =>
        Scale
        ?? (
            IsKSparse && !Transcoder ? ActivationScale.None
            : IsKSparse || Architecture == JumpRelu ? ActivationScale.Unit
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

    /// <summary>The setting that decides how many latents fire.</summary>
    private (string Key, double? Value) Sparsity =>
        IsKSparse ? ("k", K)
        : Architecture == JumpRelu ? ("l0", L0)
        : ("l1", L1);

    /// <summary>How the architecture's source brings latents back.</summary>
    private DeadLatents Revival =>
        IsKSparse ? DeadLatents.AuxK
        : Architecture is Standard or PAnneal or Gated ? DeadLatents.Resample
        : DeadLatents.None;

    private long FeatureCount(int dModel) => Features ?? (long)Expansion * dModel;

    private double DefaultLearningRate(int dModel) =>
        IsKSparse ? 2e-4 / Math.Sqrt(FeatureCount(dModel) / 16_384.0)
        : Architecture == JumpRelu ? 7e-5
        : 5e-5;

    private static int DefaultAuxK(int dModel) => Math.Max(1, dModel / 2);

    private IEnumerable<Fault> TooManyActive(long features, string path) =>
        new[] { ("k", K), ("kFrom", KFrom) }
            .Where(setting => setting.Item2 > features)
            .Select(setting => new Fault(
                ConfigPath.Join(path, setting.Item1),
                $"{setting.Item2}",
                $"at most the {features} features",
                "Lower it or raise the features"
            ));

    private Fault TooManyFeatures(int dModel, string path) =>
        new(
            ConfigPath.Join(path, "expansion"),
            FormattableString.Invariant($"{Expansion}, {FeatureCount(dModel)} features at width {dModel}"),
            $"at most {int.MaxValue} features",
            "Lower the expansion"
        );
}
