using System.Diagnostics.CodeAnalysis;
using System.Text.Json.Serialization;

namespace Pipeline.Shared.Configuration;

/// <summary>How activations are stored in shards.</summary>
[SuppressMessage("Naming", "CA1720", Justification = "The names of the formats are what a reader looks for.")]
public enum ActivationDtype
{
    /// <summary>4 bytes a value, exact.</summary>
    Float32,

    /// <summary>2 bytes a value: 11 significant bits, magnitudes up to 65,504.</summary>
    Float16,

    /// <summary>2 bytes a value: 8 significant bits, float32's range.</summary>
    [JsonStringEnumMemberName("bfloat16")]
    BFloat16,

    /// <summary>1 byte a value and 4 a row: 255 steps between plus and minus the row's largest magnitude.</summary>
    Int8,
}
