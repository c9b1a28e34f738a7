using System.Numerics;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Products of a matrix most of whose entries are left out with a block of <see cref="Panels"/>: full vectors throughout, at
/// whatever entries masks name. The entries lie together: target by target, each's in the order of the rows that its mask names.
/// </summary>
/// <remarks>
/// The loops over vectors are compiled by themselves. Put into a caller that is called often, they would use up its budget of
/// inlining: what they call would no longer be inlined, and vectors be spilled to memory around it.
/// </remarks>
public readonly unsafe partial struct MaskedBlock
{
    /// <summary>A mask for each target: which rows of the block have an entry.</summary>
    public required ulong* Masks { get; init; }

    /// <summary>The entries, one target's after the other's.</summary>
    public required float* Entries { get; init; }

    /// <summary>The block, as wide as the targets.</summary>
    public required float* Block { get; init; }

    /// <summary>The targets, contiguous rows.</summary>
    public required float* Targets { get; init; }

    /// <summary>Of block and targets; a multiple of 16.</summary>
    public required int Width { get; init; }

    /// <summary>How many.</summary>
    public required int TargetCount { get; init; }

    /// <summary>A bit for each of up to 64 values that is at least <paramref name="least"/>.</summary>
    public static ulong Reaching(ReadOnlySpan<float> values, float least, SimdWidth width)
    {
        ulong mask = 0;
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            for (; i <= values.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                mask |=
                    Vector512
                        .GreaterThanOrEqual(Vector512.Create(values[i..]), Vector512.Create(least))
                        .ExtractMostSignificantBits() << i;
            }
        }
        else if (width == SimdWidth.Vector256)
        {
            for (; i <= values.Length - Vector256<float>.Count; i += Vector256<float>.Count)
            {
                mask |=
                    (ulong)
                        Vector256
                            .GreaterThanOrEqual(Vector256.Create(values[i..]), Vector256.Create(least))
                            .ExtractMostSignificantBits() << i;
            }
        }
        for (; i < values.Length; i++)
        {
            mask |= values[i] >= least ? 1UL << i : 0;
        }
        return mask;
    }

    /// <summary>Puts those of 48 values together that a mask names.</summary>
    /// <param name="mask">Which.</param>
    /// <param name="values">48 values.</param>
    /// <param name="packed">Receives them; room for 48, of which all may be written.</param>
    /// <param name="width">Which form runs.</param>
    public static void Pack(ulong mask, float* values, float* packed, SimdWidth width)
    {
        if (width == SimdWidth.Vector512)
        {
            Pack48Of512(mask, values, packed);
            return;
        }
        for (; mask != 0; mask &= mask - 1)
        {
            *packed++ = values[BitOperations.TrailingZeroCount(mask)];
        }
    }

    /// <summary>Of what a mask names, those in the places that another names: its bits at the set bits of <paramref name="mask"/>.</summary>
    public static ulong Among(ulong mask, ulong places, SimdWidth width)
    {
        if (width != SimdWidth.Scalar && Bmi2.X64.IsSupported)
        {
            return Bmi2.X64.ParallelBitDeposit(places, mask);
        }
        ulong among = 0;
        for (; mask != 0; mask &= mask - 1, places >>= 1)
        {
            among |= (places & 1) * (mask & (~mask + 1));
        }
        return among;
    }

    /// <summary>Adds to each entry the product of its target with its row of the block.</summary>
    public void Dot(SimdWidth width)
    {
        int at = 0;
        switch (width)
        {
            case SimdWidth.Vector512:
                for (; at <= Width - (8 * Vector512<float>.Count); at += 8 * Vector512<float>.Count)
                {
                    Dot8Of512(at);
                }
                for (; at < Width; at += Vector512<float>.Count)
                {
                    Dot1Of512(at);
                }
                break;
            case SimdWidth.Vector256:
                for (; at <= Width - (8 * Vector256<float>.Count); at += 8 * Vector256<float>.Count)
                {
                    Dot8Of256(at);
                }
                for (; at < Width; at += Vector256<float>.Count)
                {
                    Dot1Of256(at);
                }
                break;
            default:
                DotScalars();
                break;
        }
    }

    /// <summary>Adds to each target the block's rows, each times its entry, in their order.</summary>
    public void Accumulate(SimdWidth width)
    {
        int at = 0;
        switch (width)
        {
            case SimdWidth.Vector512:
                for (; at <= Width - (8 * Vector512<float>.Count); at += 8 * Vector512<float>.Count)
                {
                    Accumulate8Of512(at);
                }
                for (; at < Width; at += Vector512<float>.Count)
                {
                    Accumulate1Of512(at);
                }
                break;
            case SimdWidth.Vector256:
                for (; at <= Width - (8 * Vector256<float>.Count); at += 8 * Vector256<float>.Count)
                {
                    Accumulate8Of256(at);
                }
                for (; at < Width; at += Vector256<float>.Count)
                {
                    Accumulate1Of256(at);
                }
                break;
            default:
                AccumulateScalars();
                break;
        }
    }

    /// <summary>
    /// The same, and adds to each entry's dot the product of the block's row with the other of its target: a row of the block
    /// that was loaded serves both.
    /// </summary>
    /// <param name="dots">Laid out as the entries.</param>
    /// <param name="others">Laid out as the targets.</param>
    /// <param name="width">Which form runs.</param>
    public void AccumulateAndDot(float* dots, float* others, SimdWidth width)
    {
        int at = 0;
        switch (width)
        {
            case SimdWidth.Vector512:
                for (; at <= Width - (8 * Vector512<float>.Count); at += 8 * Vector512<float>.Count)
                {
                    AccumulateAndDot8Of512(dots, others, at);
                }
                for (; at < Width; at += Vector512<float>.Count)
                {
                    AccumulateAndDot1Of512(dots, others, at);
                }
                break;
            case SimdWidth.Vector256:
                for (; at <= Width - (4 * Vector256<float>.Count); at += 4 * Vector256<float>.Count)
                {
                    AccumulateAndDot4Of256(dots, others, at);
                }
                for (; at < Width; at += Vector256<float>.Count)
                {
                    AccumulateAndDot1Of256(dots, others, at);
                }
                break;
            default:
                AccumulateAndDotScalars(dots, others);
                break;
        }
    }

    private void DotScalars()
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float dot = 0;
                for (int i = 0; i < Width; i++)
                {
                    dot += Targets[((nint)t * Width) + i] * Block[(row * Width) + i];
                }
                *entry++ += dot;
            }
        }
    }

    private void AccumulateScalars()
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1, entry++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                for (int i = 0; i < Width; i++)
                {
                    Targets[((nint)t * Width) + i] += *entry * Block[(row * Width) + i];
                }
            }
        }
    }

    private void AccumulateAndDotScalars(float* dots, float* others)
    {
        int entry = 0;
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1, entry++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float dot = 0;
                for (int i = 0; i < Width; i++)
                {
                    float value = Block[(row * Width) + i];
                    Targets[((nint)t * Width) + i] += Entries[entry] * value;
                    dot += others[((nint)t * Width) + i] * value;
                }
                dots[entry] += dot;
            }
        }
    }
}
