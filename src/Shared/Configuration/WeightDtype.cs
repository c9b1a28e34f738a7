using System.Diagnostics.CodeAnalysis;

namespace Pipeline.Shared.Configuration;

/// <summary>How a pretrained model's weights are saved.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The names of the formats are what a reader looks for.")]
public enum WeightDtype
{
    /// <summary>4 bytes a weight, exact.</summary>
    Float32,

    /// <summary>2 bytes a weight: 11 significant bits.</summary>
    Float16,
}
