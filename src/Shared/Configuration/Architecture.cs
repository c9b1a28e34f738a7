using System.Text.Json.Serialization;

namespace Pipeline.Shared.Configuration;

/// <summary>The kinds of sparse autoencoder that can be trained.</summary>
public enum Architecture
{
    /// <summary>Keeps the k largest latents of each row (Scaling and evaluating sparse autoencoders, section 2.3), with
    /// an auxiliary loss that revives dead ones.</summary>
    [JsonStringEnumMemberName("topk")]
    TopK,

    /// <summary>Keeps the k·B largest latents of a batch of B rows; a threshold stands for k at inference.</summary>
    [JsonStringEnumMemberName("batchtopk")]
    BatchTopK,

    /// <summary>BatchTopK whose first latents also reconstruct alone, group by group.</summary>
    [JsonStringEnumMemberName("matryoshka-batchtopk")]
    MatryoshkaBatchTopK,

    /// <summary>ReLU with an L1 penalty and a unit decoder (Towards Monosemanticity).</summary>
    Standard,

    /// <summary>ReLU with an L1 penalty weighted by decoder norm, no constraint on the decoder (Anthropic, April 2024).</summary>
    StandardApril,

    /// <summary>Standard whose penalty is the p-th power of each latent, p falling from 1 (Karvonen et al. 2024).</summary>
    PAnneal,

    /// <summary>A gate decides which latents fire, a magnitude how much.</summary>
    Gated,

    /// <summary>Each latent has a threshold that is learnt, with an L0 penalty.</summary>
    [JsonStringEnumMemberName("jumprelu")]
    JumpRelu,
}
