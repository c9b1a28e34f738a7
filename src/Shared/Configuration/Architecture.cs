using System.Text.Json.Serialization;

namespace Pipeline.Shared.Configuration;

/// <summary>The kinds of sparse autoencoder that can be trained.</summary>
public enum Architecture
{
    /// <summary>Keeps the k largest latents of each row (Scaling and evaluating sparse autoencoders, section 2.3), with
    /// an auxiliary loss that revives dead ones.</summary>
    [JsonStringEnumMemberName("topk")]
    TopK,
}
