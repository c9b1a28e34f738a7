using System.Diagnostics.CodeAnalysis;

namespace Pipeline.Shared.Configuration;

/// <summary>How activations are stored in shards.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The names of the formats are what a reader looks for.")]
public enum ActivationDtype
{
    /// <summary>4 bytes a value, exact.</summary>
    Float32,

    /// <summary>2 bytes a value: 11 significant bits, magnitudes up to 65,504.</summary>
    Float16,
}
