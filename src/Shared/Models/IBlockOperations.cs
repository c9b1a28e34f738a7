using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// What a transformer's blocks are made of, in float32. <see cref="TensorForward"/> has a gradient and runs anywhere;
/// <see cref="CpuForward"/> stands in for it on the CPU where none is wanted.
/// </summary>
internal interface IBlockOperations
{
    /// <summary>norm(x) Wᵀ + b: [.., I] to [.., O].</summary>
    Tensor Project(Norm? norm, Linear linear, Tensor x);

    /// <summary>Attention with its norms and projections, [B,T,D], added to <paramref name="residBTD"/> where that is not null.</summary>
    /// <param name="layer">The block's number.</param>
    /// <param name="weights">The block's.</param>
    /// <param name="xBTD">Its input.</param>
    /// <param name="residBTD">The stream, which may be the input too.</param>
    /// <param name="mayOverwrite">Nobody needs the stream as it was: the sum may take its place in memory.</param>
    Tensor Attention(int layer, BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite);

    /// <summary>The MLP with its norms, likewise.</summary>
    /// <inheritdoc cref="Attention"/>
    Tensor Mlp(BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite);
}
