using System.Text.Json.Serialization;

namespace Pipeline.Shared.Configuration;

/// <summary>What is done for latents that no longer fire.</summary>
public enum DeadLatents
{
    /// <summary>They reconstruct what the others leave over, in a loss of their own (Gao et al. 2024, section A.2).</summary>
    [JsonStringEnumMemberName("auxk")]
    AuxK,

    /// <summary>Now and then they start anew from inputs that are reconstructed badly (Bricken et al. 2023).</summary>
    Resample,

    /// <summary>Nothing.</summary>
    None,
}
