using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>The latents kept of a batch.</summary>
/// <param name="IndicesBK">int64; which latents.</param>
/// <param name="ValuesBK">Their activations, 0 where fewer than k are positive.</param>
public sealed record SparseLatents(Tensor IndicesBK, Tensor ValuesBK);
