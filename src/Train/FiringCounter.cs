using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>Counts, of one step, the tokens that passed since each latent fired.</summary>
/// <param name="tokensSinceFiredF">Before this step's batch, int64 [F]; counted up in place.</param>
/// <param name="deadAfter">Tokens without firing after which a latent is dead.</param>
/// <param name="tokens">Of this step's batch.</param>
internal sealed class FiringCounter(Tensor tokensSinceFiredF, long deadAfter, long tokens)
{
    /// <summary>Before the count: latents, bool [F], that are dead after it if they do not fire in this batch.</summary>
    public Tensor DeadUnlessFiringF() => tokensSinceFiredF >= deadAfter - tokens;

    /// <summary>Counts the batch.</summary>
    /// <param name="firedF">Latents that fired in it, bool [F].</param>
    /// <returns>Those dead now, bool [F].</returns>
    public Tensor CountAndFindDead(Tensor firedF)
    {
        using var none = no_grad();
        tokensSinceFiredF.add_(tokens).masked_fill_(firedF, 0);
        return tokensSinceFiredF >= deadAfter;
    }
}
