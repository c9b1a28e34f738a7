namespace Pipeline.Shared.Kernels.Screening;

/// <summary>What of one row may be among the largest: latents with their scores' bounds, in ascending order of latent.</summary>
/// <param name="simd">Which form runs.</param>
internal sealed class ScreenedRow(SimdWidth simd)
{
    /// <summary>Room for candidates, in units of k, before the floor is raised; and at the least.</summary>
    private const int CapacityOverK = 8;
    private const int LeastCapacity = 128;

    private int[] latents = [];
    private float[] most = [];
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

    /// <summary>A value of each candidate: what its score is at the least, until a caller writes another.</summary>
    public Span<float> Values => values.AsSpan(0, Count);

    /// <param name="scale">See <see cref="Scale"/>.</param>
    /// <param name="slack">See <see cref="Slack"/>.</param>
    /// <param name="kept">The floor rises so that as many stay above it; 0 where it does not rise.</param>
    /// <param name="floor">To begin with, positive.</param>
    public void Begin(float scale, float slack, int kept, float floor)
    {
        (Scale, Slack, k, Floor, Count) = (scale, slack, kept, floor, 0);
        int capacity = LeastCapacity + (CapacityOverK * kept);
        if (latents.Length < capacity)
        {
            Grow(capacity);
        }
    }

    /// <summary>Adds those of a tile's latents that may reach the floor.</summary>
    /// <param name="sumsL">This row's.</param>
    /// <param name="scalesL">The latents'.</param>
    /// <param name="biasesL">The latents'.</param>
    /// <param name="first">The first latent.</param>
    public unsafe void Collect<TTile>(int* sumsL, float* scalesL, float* biasesL, int first)
        where TTile : struct, IScreenTile
    {
        if (Count + TTile.Latents > latents.Length)
        {
            MakeRoom(TTile.Latents);
        }
        fixed (int* latentsN = latents)
        fixed (
            float* mostN = most,
                leastN = values
        )
        {
            var to = new Candidates(latentsN + Count, mostN + Count, leastN + Count);
            Count += TTile.Collect(sumsL, scalesL, biasesL, Scale, Slack, Floor, first, to);
        }
    }

    /// <summary>Raises the floor to what k latents surely reach.</summary>
    /// <returns>Whether the k largest are among the candidates; not where the floor is above what k latents reach.</returns>
    public bool KeepWhatMayBeLargest()
    {
        float surely = KeepLargest.LeastOf(PaddedValues(), k, simd);
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
            // Without a branch: whether a candidate stays cannot be foretold.
            (latents[kept], values[kept]) = (latents[i], values[i]);
            float highest = most[i];
            most[kept] = highest;
            kept += highest >= Floor ? 1 : 0;
        }
        Count = kept;
    }

    /// <summary>The values, and zeros to a whole number of vectors.</summary>
    public Span<float> PaddedValues()
    {
        int padded = (Count + 15) / 16 * 16;
        if (padded > values.Length)
        {
            Grow(2 * values.Length);
        }
        values.AsSpan(Count, padded - Count).Clear();
        return values.AsSpan(0, padded);
    }

    private void MakeRoom(int room)
    {
        if (k > 0)
        {
            KeepWhatMayBeLargest();
        }
        if (Count + room > latents.Length * 3 / 4)
        {
            Grow(2 * latents.Length);
        }
    }

    private void Grow(int capacity)
    {
        Array.Resize(ref latents, capacity);
        Array.Resize(ref most, capacity);
        Array.Resize(ref values, capacity);
    }
}

/// <summary>Where candidates go.</summary>
/// <param name="latents">Their numbers.</param>
/// <param name="most">What their scores are at the most.</param>
/// <param name="least">And at the least.</param>
internal readonly unsafe struct Candidates(int* latents, float* most, float* least)
{
    public readonly int* Latents = latents;
    public readonly float* Most = most;
    public readonly float* Least = least;
}
