using System.Numerics;

namespace Pipeline.Shared;

/// <summary>
/// xoshiro256** (Blackman and Vigna, "Scrambled linear pseudorandom number generators", 2021), seeded through SplitMix64:
/// the same numbers on every machine and framework, and a state of four words that a checkpoint can hold.
/// </summary>
public sealed class Xoshiro256
{
    private ulong s0;
    private ulong s1;
    private ulong s2;
    private ulong s3;

    public Xoshiro256(ulong seed)
    {
        s0 = SplitMix64(ref seed);
        s1 = SplitMix64(ref seed);
        s2 = SplitMix64(ref seed);
        s3 = SplitMix64(ref seed);
    }

    /// <summary>The generator of the stream (<paramref name="seed"/>, <paramref name="stage"/>, <paramref name="purpose"/>).</summary>
    public Xoshiro256(ulong seed, string stage, string purpose)
        : this(RandomStreams.Derive(seed, stage, purpose)) { }

    /// <summary>Everything the next numbers depend on: four words, not all zero.</summary>
    /// <exception cref="ArgumentException">Set to other than four words, or to zeros only.</exception>
    public ulong[] State
    {
        get => [s0, s1, s2, s3];
        set
        {
            if (value is not { Length: 4 } || !value.AsSpan().ContainsAnyExcept(0UL))
            {
                throw new ArgumentException("The state is four words, not all zero.", nameof(value));
            }
            (s0, s1, s2, s3) = (value[0], value[1], value[2], value[3]);
        }
    }

    /// <summary>64 uniform bits.</summary>
    public ulong NextULong()
    {
        ulong result = BitOperations.RotateLeft(s1 * 5, 7) * 9;
        ulong t = s1 << 17;
        s2 ^= s0;
        s3 ^= s1;
        s1 ^= s2;
        s0 ^= s3;
        s2 ^= t;
        s3 = BitOperations.RotateLeft(s3, 45);
        return result;
    }

    /// <summary>Uniform in [0, 1), a multiple of 2^-53.</summary>
    public double NextDouble() => (NextULong() >> 11) * (1.0 / (1UL << 53));

    /// <summary>Uniform in [0, <paramref name="bound"/>) without bias (Lemire, "Fast random integer generation", 2019).</summary>
    public int NextInt(int bound)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(bound);
        ulong high = Math.BigMul(NextULong(), (ulong)bound, out ulong low);
        if (low < (ulong)bound)
        {
            ulong threshold = (0UL - (ulong)bound) % (ulong)bound;
            while (low < threshold)
            {
                high = Math.BigMul(NextULong(), (ulong)bound, out low);
            }
        }
        return (int)high;
    }

    /// <summary>
    /// Standard normal (Box and Muller's transform, one value a call). Its last bits follow the platform's logarithm and
    /// cosine, unlike the other draws.
    /// </summary>
    public double NextGaussian() => Math.Sqrt(-2 * Math.Log(1 - NextDouble())) * Math.Cos(2 * Math.PI * NextDouble());

    /// <summary>Puts <paramref name="items"/> into a uniformly random order (Fisher and Yates).</summary>
    public void Shuffle(Span<int> items)
    {
        for (int i = items.Length - 1; i > 0; i--)
        {
            int j = NextInt(i + 1);
            (items[i], items[j]) = (items[j], items[i]);
        }
    }

    /// <summary>A generator of its own, seeded by this one's next number.</summary>
    public Xoshiro256 Split() => new(NextULong());

    private static ulong SplitMix64(ref ulong state)
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
