namespace Pipeline.Train;

/// <summary>Learning-rate factors as pure functions of the 0-based step.</summary>
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
}
