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
    Tensor Attention(int layer, BlockWeights weights, Tensor xBTD, Tensor? residBTD);

    /// <summary>The MLP with its norms, likewise.</summary>
    Tensor Mlp(BlockWeights weights, Tensor xBTD, Tensor? residBTD);
}
