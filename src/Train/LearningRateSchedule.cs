using Pipeline.Shared.Configuration;

namespace Pipeline.Train;

/// <summary>Factors of the learning rate and of the sparsity as pure functions of the 0-based step.</summary>
internal static class LearningRateSchedule
{
    /// <summary>
    /// Rises linearly from 0 over <paramref name="warmup"/> steps, stays at 1, and falls linearly over the last
    /// <paramref name="decay"/> of <paramref name="total"/> steps, which would reach 0 one step after the last.
    /// </summary>
    public static double WarmupThenDecay(long step, long total, long warmup, long decay)
    {
        double rising = step < warmup ? step / (double)warmup : 1;
        double falling = step >= total - decay ? (total - step) / (double)decay : 1;
        return Math.Min(rising, falling);
    }

    /// <summary>
    /// Rises linearly from 0 over <paramref name="warmup"/> steps; the rest of <paramref name="total"/> is
    /// <paramref name="cycles"/> half cosines from 1 towards 0, each beginning at 1 at once (Loshchilov and Hutter 2017,
    /// SGDR, with cycles of equal length).
    /// </summary>
    public static double Cosine(long step, long total, long warmup, int cycles)
    {
        if (step < warmup)
        {
            return step / (double)warmup;
        }
        double progress = (step - warmup) / (double)Math.Max(1, total - warmup);
        return 0.5 * (1 + Math.Cos(Math.PI * (progress * cycles % 1)));
    }

    /// <summary>The factor an SAE's settings ask for at a step of <paramref name="total"/>.</summary>
    public static double Of(SaeConfig sae, long step, long total)
    {
        long warmup = (long)(sae.Warmup * total);
        return sae.Schedule switch
        {
            Schedule.Constant => WarmupThenDecay(step, total, warmup, 0),
            Schedule.Linear => WarmupThenDecay(step, total, warmup, (long)(sae.Decay * total)),
            Schedule.Cosine => Cosine(step, total, warmup, 1),
            _ => Cosine(step, total, warmup, sae.Cycles),
        };
    }
}
