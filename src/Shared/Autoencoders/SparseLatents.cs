using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>The active latents of a batch. K is the architecture's k, or the most latents any row has active.</summary>
/// <param name="IndicesBK">int64; which latents.</param>
/// <param name="ValuesBK">Their activations, 0 where a row has fewer than K.</param>
public sealed record SparseLatents(Tensor IndicesBK, Tensor ValuesBK)
{
    /// <summary>What normalising the input took from it, for decoding to give back; null where nothing was.</summary>
    public InputStatistics? Statistics { get; init; }

    /// <summary>What a skip transcoder adds to the decoding, [B, D]; null elsewhere.</summary>
    public Tensor? SkippedBD { get; init; }
}
