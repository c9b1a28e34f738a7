using Pipeline.Shared.Configuration;

namespace Pipeline.Train;

/// <summary>How sparse an SAE is asked to be at one step: a pure function of it.</summary>
/// <param name="Step">From 0.</param>
/// <param name="Scale">Factor of the L1 or L0 penalty, from 0 to 1 during its warm-up.</param>
/// <param name="K">Latents kept, for the topk family.</param>
internal readonly record struct SparsityAtStep(long Step, double Scale = 1, int? K = null)
{
    /// <param name="sae">Its settings.</param>
    /// <param name="step">From 0.</param>
    /// <param name="total">Steps of the whole training.</param>
    public static SparsityAtStep Of(SaeConfig sae, long step, long total) =>
        new(
            step,
            LearningRateSchedule.WarmupThenDecay(step, total, (long)(sae.SparsityWarmup * total), 0),
            KAt(sae, step, (long)(sae.KAnneal * total))
        );

    private static int? KAt(SaeConfig sae, long step, long anneal) =>
        sae is { K: { } k, KFrom: { } from } && step < anneal
            ? (int)Math.Round(from + ((k - from) * (step / (double)anneal)))
            : sae.K;
}
