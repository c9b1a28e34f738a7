using System.Globalization;

namespace Pipeline.Shared.Configuration;

/// <summary>One sparse autoencoder.</summary>
public sealed record SaeConfig
{
    public required Architecture Architecture { get; init; }

    /// <summary>Latents per activation dimension. Ignored where <see cref="Features"/> is given.</summary>
    [AtLeast(1)]
    public int Expansion { get; init; } = 8;

    /// <summary>F, the number of latents; null means expansion times width.</summary>
    [AtLeast(1)]
    public int? Features { get; init; }

    /// <summary>K, latents kept per activation.</summary>
    [AtLeast(1)]
    public required int K { get; init; }

    /// <summary>Dead latents that reconstruct the residual together; null means half the width.</summary>
    [AtLeast(1)]
    public int? AuxK { get; init; }

    /// <summary>Weight of the AuxK loss; 0 switches it off.</summary>
    [AtLeast(0)]
    public double AuxCoefficient { get; init; } = 1.0 / 32;

    /// <summary>A latent is dead when it has not fired for this many tokens.</summary>
    [AtLeast(1)]
    public TokenCount DeadAfter { get; init; } = 10_000_000;

    /// <summary>Of Adam, after warm-up; null means 2e-4 / sqrt(F / 2^14) (Gao et al. 2024).</summary>
    [AtLeast(0)]
    public double? LearningRate { get; init; }

    /// <summary>Fraction of the steps with a linearly rising learning rate.</summary>
    [Between(0, 1)]
    public double Warmup { get; init; } = 0.05;

    /// <summary>Fraction of the steps, at the end, with a learning rate falling linearly to 0.</summary>
    [Between(0, 1)]
    public double Decay { get; init; } = 0.2;

    /// <summary>Largest joint gradient norm.</summary>
    [AtLeast(0)]
    public double GradientClip { get; init; } = 1;

    /// <summary>Null means the pipeline's seed.</summary>
    public ulong? Seed { get; init; }

    public int FeaturesAt(int width) => Features ?? Expansion * width;

    public double LearningRateAt(int width) => LearningRate ?? 2e-4 / Math.Sqrt(FeaturesAt(width) / 16384.0);

    /// <summary>The folder's name: architecture, latents, k, and what else is not the default.</summary>
    public string Identifier(int width)
    {
        string name = string.Create(
            CultureInfo.InvariantCulture,
            $"{YamlBinder.SpellingOf(Architecture)}-{FeaturesAt(width)}-k{K}"
        );
        if (LearningRate is { } rate)
        {
            name += string.Create(CultureInfo.InvariantCulture, $"-lr{rate}");
        }
        if (Seed is { } seed)
        {
            name += string.Create(CultureInfo.InvariantCulture, $"-seed{seed}");
        }
        return name;
    }

    /// <summary>Rules that need the activation width.</summary>
    public IEnumerable<Fault> ValidateAt(int width, string where)
    {
        int features = FeaturesAt(width);
        if (K > features)
        {
            yield return new Fault(
                $"{where}.k",
                $"{K}",
                $"at most the {features} latents of this SAE (activations are {width} wide)",
                "Choose a smaller k or more latents"
            );
        }
    }
}
