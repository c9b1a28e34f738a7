using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// What a direction of the residual stream does to the logits by itself, past the blocks that follow (nostalgebraist's logit
/// lens, applied to a direction): the final norm's weight, then the unembedding. The norm's scale, one number a token, is left
/// out, and so are its bias and the logits' cap: they do not tell which tokens a direction is for.
/// </summary>
internal sealed class DirectLogitEffect(Transformer model)
{
    /// <summary>Change of every token's logit for one unit along each direction, times the norm's scale at the token.</summary>
    /// <param name="directionsFD">float32, such as decoder rows.</param>
    /// <returns>[F, V], of the caller's dispose scope: F x V x 4 bytes, so a few directions at a time.</returns>
    public Tensor Of(Tensor directionsFD)
    {
        using var scope = NewDisposeScope();
        var centredFD =
            model.Config.Norm == NormKind.LayerNorm
                ? directionsFD - directionsFD.mean([-1], keepdim: true) // as LayerNorm takes the mean off every token
                : directionsFD;
        return (centredFD * model.Weights.FinalNorm.Weight)
            .matmul(model.Weights.Unembedding.Weight.t())
            .MoveToOuterDisposeScope();
    }
}
