namespace Pipeline.Shared.Kernels.Screening;

/// <summary>What of one row may be among the largest: latents with their sums, in ascending order of latent.</summary>
/// <param name="screen">Whose latents.</param>
internal sealed class ScreenedRow(EncoderScreen screen)
{
    private const int LeastCapacity = 64;

    private int[] latents = [];
    private int[] sums = [];
    private float[] values = [];
    private int k;

    /// <summary>Factor of the row's int16 values.</summary>
    public float Scale { get; private set; }

    /// <summary>What its sums, times <see cref="Scale"/>, may be off by, over a latent's scale.</summary>
    public float Slack { get; private set; }

    /// <summary>Latents that cannot reach this are passed over.</summary>
    public float Floor { get; private set; }

    public int Count { get; private set; }

    public ReadOnlySpan<int> Latents => latents.AsSpan(0, Count);

    /// <summary>A value of each candidate: what was last asked for.</summary>
    public Span<float> Values => values.AsSpan(0, Count);

    /// <param name="scale">See <see cref="Scale"/>.</param>
    /// <param name="slack">See <see cref="Slack"/>.</param>
    /// <param name="kept">The floor rises so that as many stay above it; 0 where it does not rise.</param>
    /// <param name="floor">To begin with, positive.</param>
    public void Begin(float scale, float slack, int kept, float floor)
    {
        (Scale, Slack, k, Floor, Count) = (scale, slack, kept, floor, 0);
        if (latents.Length < Math.Max(LeastCapacity, 8 * kept))
        {
            Grow(Math.Max(LeastCapacity, 8 * kept));
        }
    }

    public void Add(int latent, int sum)
    {
        if (Count == latents.Length)
        {
            if (k > 0)
            {
                KeepWhatMayBeLargest();
            }
            if (Count > latents.Length * 3 / 4)
            {
                Grow(2 * latents.Length);
            }
        }
        (latents[Count], sums[Count]) = (latent, sum);
        Count++;
    }

    /// <summary>Raises the floor to what k latents surely reach.</summary>
    /// <returns>Whether the k largest are among the candidates; not where the floor is above what k latents reach.</returns>
    public bool KeepWhatMayBeLargest()
    {
        float surely = Count < k ? 0 : ThresholdSelect.NthLargest(LeastValues(), k);
        bool isComplete = surely >= Floor || Floor == float.Epsilon;
        KeepFrom(surely);
        return isComplete;
    }

    /// <summary>Drops what cannot reach <paramref name="floor"/>.</summary>
    public void KeepFrom(float floor)
    {
        Floor = Math.Max(Floor, floor);
        int kept = 0;
        for (int i = 0; i < Count; i++)
        {
            if (screen.Most(latents[i], sums[i], Scale, Slack) >= Floor)
            {
                (latents[kept], sums[kept]) = (latents[i], sums[i]);
                kept++;
            }
        }
        Count = kept;
    }

    /// <summary>Makes the candidates' values what their scores are at the least; the caller may reorder them.</summary>
    public Span<float> LeastValues()
    {
        for (int i = 0; i < Count; i++)
        {
            values[i] = screen.Most(latents[i], sums[i], Scale, -Slack);
        }
        return Values;
    }

    private void Grow(int capacity)
    {
        Array.Resize(ref latents, capacity);
        Array.Resize(ref sums, capacity);
        Array.Resize(ref values, capacity);
    }
}
