using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels;

/// <summary>How a matrix [rows, D] lies in memory so that a block of it stays in the first-level cache: [rows / 48][D / 128][48][128].</summary>
/// <remarks>D is filled up with zeros to a multiple of 16; the last block of a row of blocks is as narrow as what is left.</remarks>
/// <param name="Width">D.</param>
public readonly record struct Panels(int Width)
{
    /// <summary>Rows of a block; a mask has a bit for each.</summary>
    public const int BlockRows = 48;

    /// <summary>Columns of a block: 8 vectors of 16.</summary>
    public const int BlockWidth = 128;

    /// <summary>D with its zeros.</summary>
    public int Padded => (Width + 15) / 16 * 16;

    /// <summary>Blocks beside each other.</summary>
    public int Across => (Padded + BlockWidth - 1) / BlockWidth;

    /// <summary>Blocks below each other that hold a number of rows.</summary>
    public static int Down(int rows) => (rows + BlockRows - 1) / BlockRows;

    /// <summary>Floats that a number of rows takes.</summary>
    public long Length(int rows) => (long)Down(rows) * BlockRows * Padded;

    /// <summary>Columns of a block, and floats from one row of it to the next.</summary>
    public int WidthOf(int across) => Math.Min(BlockWidth, Padded - (across * BlockWidth));

    /// <summary>Where a block begins.</summary>
    public long Start(int down, int across) => ((long)down * BlockRows * Padded) + (BlockRows * BlockWidth * across);

    /// <summary>Where a row's part in a block begins.</summary>
    public long Start(int row, int across, int widthOf) =>
        Start(row / BlockRows, across) + (row % BlockRows * (long)widthOf);

    /// <summary>Asks for a block in the second-level cache. Masked reading skips about in it, which no hardware foresees.</summary>
    public unsafe void Prefetch(float* panels, int down, int across)
    {
        if (Sse.IsSupported)
        {
            float* block = panels + Start(down, across);
            for (int at = 0; at < BlockRows * WidthOf(across); at += Vector512<float>.Count)
            {
                Sse.Prefetch1(block + at);
            }
        }
    }

    /// <summary>Lays a row out.</summary>
    /// <param name="row">D values.</param>
    /// <param name="panels">Where the panels begin.</param>
    /// <param name="at">Which row of them it becomes.</param>
    public unsafe void Put(ReadOnlySpan<float> row, float* panels, int at)
    {
        for (int across = 0; across < Across; across++)
        {
            int width = WidthOf(across);
            var part = row[(across * BlockWidth)..Math.Min(Width, (across + 1) * BlockWidth)];
            var target = new Span<float>(panels + Start(at, across, width), width);
            part.CopyTo(target);
            target[part.Length..].Clear();
        }
    }

    /// <summary>Reads a row back.</summary>
    /// <param name="panels">Where the panels begin.</param>
    /// <param name="at">Which row.</param>
    /// <param name="row">Receives D values.</param>
    public unsafe void Take(float* panels, int at, Span<float> row)
    {
        for (int across = 0; across < Across; across++)
        {
            int width = WidthOf(across);
            var part = row[(across * BlockWidth)..Math.Min(Width, (across + 1) * BlockWidth)];
            new ReadOnlySpan<float>(panels + Start(at, across, width), part.Length).CopyTo(part);
        }
    }
}

/// <summary>
/// Products of a matrix most of whose entries are left out with a block of <see cref="Panels"/>: full vectors throughout, at
/// whatever entries a mask names. Loops that hold vectors call nothing, since a call would spill them.
/// </summary>
public readonly unsafe struct MaskedBlock
{
    /// <summary>A mask for each target: which rows of the block have an entry.</summary>
    public required ulong* Masks { get; init; }

    /// <summary>From one target's mask to the next.</summary>
    public required nint MaskStep { get; init; }

    /// <summary>The entry of the first target and the block's first row; those of its other rows follow.</summary>
    public required float* Entries { get; init; }

    /// <summary>From one target's entries to the next.</summary>
    public required nint TargetStep { get; init; }

    /// <summary>The block, as wide as the targets.</summary>
    public required float* Block { get; init; }

    /// <summary>The targets, contiguous rows.</summary>
    public required float* Targets { get; init; }

    /// <summary>Of block and targets; a multiple of 16.</summary>
    public required int Width { get; init; }

    /// <summary>How many.</summary>
    public required int TargetCount { get; init; }

    /// <summary>A bit for each of up to 64 values that is positive.</summary>
    public static ulong Positive(ReadOnlySpan<float> values, SimdWidth width)
    {
        ulong mask = 0;
        int i = 0;
        if (width == SimdWidth.Vector512)
        {
            for (; i <= values.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                mask |=
                    Vector512
                        .GreaterThan(Vector512.Create(values[i..]), Vector512<float>.Zero)
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
                            .GreaterThan(Vector256.Create(values[i..]), Vector256<float>.Zero)
                            .ExtractMostSignificantBits() << i;
            }
        }
        for (; i < values.Length; i++)
        {
            mask |= values[i] > 0 ? 1UL << i : 0;
        }
        return mask;
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Accumulate8Of512(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            var sum0 = Vector512.Load(target);
            var sum1 = Vector512.Load(target + 16);
            var sum2 = Vector512.Load(target + 32);
            var sum3 = Vector512.Load(target + 48);
            var sum4 = Vector512.Load(target + 64);
            var sum5 = Vector512.Load(target + 80);
            var sum6 = Vector512.Load(target + 96);
            var sum7 = Vector512.Load(target + 112);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector512.Create(entries[row]);
                float* from = block + (row * pitch);
                sum0 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from), sum0);
                sum1 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 16), sum1);
                sum2 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 32), sum2);
                sum3 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 48), sum3);
                sum4 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 64), sum4);
                sum5 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 80), sum5);
                sum6 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 96), sum6);
                sum7 = Vector512.FusedMultiplyAdd(entry, Vector512.Load(from + 112), sum7);
            }
            sum0.Store(target);
            sum1.Store(target + 16);
            sum2.Store(target + 32);
            sum3.Store(target + 48);
            sum4.Store(target + 64);
            sum5.Store(target + 80);
            sum6.Store(target + 96);
            sum7.Store(target + 112);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Accumulate1Of512(int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector512.Load(target);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector512.Create(Entries[(t * TargetStep) + row]);
                sum = Vector512.FusedMultiplyAdd(entry, Vector512.Load(Block + (row * Width) + at), sum);
            }
            sum.Store(target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Accumulate8Of256(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            var sum0 = Vector256.Load(target);
            var sum1 = Vector256.Load(target + 8);
            var sum2 = Vector256.Load(target + 16);
            var sum3 = Vector256.Load(target + 24);
            var sum4 = Vector256.Load(target + 32);
            var sum5 = Vector256.Load(target + 40);
            var sum6 = Vector256.Load(target + 48);
            var sum7 = Vector256.Load(target + 56);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector256.Create(entries[row]);
                float* from = block + (row * pitch);
                sum0 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from), sum0);
                sum1 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 8), sum1);
                sum2 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 16), sum2);
                sum3 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 24), sum3);
                sum4 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 32), sum4);
                sum5 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 40), sum5);
                sum6 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 48), sum6);
                sum7 = Vector256.FusedMultiplyAdd(entry, Vector256.Load(from + 56), sum7);
            }
            sum0.Store(target);
            sum1.Store(target + 8);
            sum2.Store(target + 16);
            sum3.Store(target + 24);
            sum4.Store(target + 32);
            sum5.Store(target + 40);
            sum6.Store(target + 48);
            sum7.Store(target + 56);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Accumulate1Of256(int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector256.Load(target);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector256.Create(Entries[(t * TargetStep) + row]);
                sum = Vector256.FusedMultiplyAdd(entry, Vector256.Load(Block + (row * Width) + at), sum);
            }
            sum.Store(target);
        }
    }

    private void AccumulateScalars()
    {
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float entry = Entries[(t * TargetStep) + row];
                for (int i = 0; i < Width; i++)
                {
                    Targets[((nint)t * Width) + i] += entry * Block[(row * Width) + i];
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AccumulateAndDot8Of512(float* dots, float* others, int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* ofEntries = dots + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            float* other = others + (t * pitch) + at;
            var sum0 = Vector512.Load(target);
            var sum1 = Vector512.Load(target + 16);
            var sum2 = Vector512.Load(target + 32);
            var sum3 = Vector512.Load(target + 48);
            var sum4 = Vector512.Load(target + 64);
            var sum5 = Vector512.Load(target + 80);
            var sum6 = Vector512.Load(target + 96);
            var sum7 = Vector512.Load(target + 112);
            var other0 = Vector512.Load(other);
            var other1 = Vector512.Load(other + 16);
            var other2 = Vector512.Load(other + 32);
            var other3 = Vector512.Load(other + 48);
            var other4 = Vector512.Load(other + 64);
            var other5 = Vector512.Load(other + 80);
            var other6 = Vector512.Load(other + 96);
            var other7 = Vector512.Load(other + 112);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector512.Create(entries[row]);
                float* from = block + (row * pitch);
                var values = Vector512.Load(from);
                sum0 = Vector512.FusedMultiplyAdd(entry, values, sum0);
                var even = other0 * values;
                values = Vector512.Load(from + 16);
                sum1 = Vector512.FusedMultiplyAdd(entry, values, sum1);
                var odd = other1 * values;
                values = Vector512.Load(from + 32);
                sum2 = Vector512.FusedMultiplyAdd(entry, values, sum2);
                even = Vector512.FusedMultiplyAdd(other2, values, even);
                values = Vector512.Load(from + 48);
                sum3 = Vector512.FusedMultiplyAdd(entry, values, sum3);
                odd = Vector512.FusedMultiplyAdd(other3, values, odd);
                values = Vector512.Load(from + 64);
                sum4 = Vector512.FusedMultiplyAdd(entry, values, sum4);
                even = Vector512.FusedMultiplyAdd(other4, values, even);
                values = Vector512.Load(from + 80);
                sum5 = Vector512.FusedMultiplyAdd(entry, values, sum5);
                odd = Vector512.FusedMultiplyAdd(other5, values, odd);
                values = Vector512.Load(from + 96);
                sum6 = Vector512.FusedMultiplyAdd(entry, values, sum6);
                even = Vector512.FusedMultiplyAdd(other6, values, even);
                values = Vector512.Load(from + 112);
                sum7 = Vector512.FusedMultiplyAdd(entry, values, sum7);
                odd = Vector512.FusedMultiplyAdd(other7, values, odd);
                var half = (even + odd).GetLower() + (even + odd).GetUpper();
                ofEntries[row] += Vector128.Sum(half.GetLower() + half.GetUpper());
            }
            sum0.Store(target);
            sum1.Store(target + 16);
            sum2.Store(target + 32);
            sum3.Store(target + 48);
            sum4.Store(target + 64);
            sum5.Store(target + 80);
            sum6.Store(target + 96);
            sum7.Store(target + 112);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AccumulateAndDot1Of512(float* dots, float* others, int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector512.Load(target);
            var other = Vector512.Load(others + ((nint)t * Width) + at);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var values = Vector512.Load(Block + (row * Width) + at);
                sum = Vector512.FusedMultiplyAdd(Vector512.Create(Entries[(t * TargetStep) + row]), values, sum);
                dots[(t * TargetStep) + row] += Vector512.Sum(other * values);
            }
            sum.Store(target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AccumulateAndDot4Of256(float* dots, float* others, int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* ofEntries = dots + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            float* other = others + (t * pitch) + at;
            var sum0 = Vector256.Load(target);
            var sum1 = Vector256.Load(target + 8);
            var sum2 = Vector256.Load(target + 16);
            var sum3 = Vector256.Load(target + 24);
            var other0 = Vector256.Load(other);
            var other1 = Vector256.Load(other + 8);
            var other2 = Vector256.Load(other + 16);
            var other3 = Vector256.Load(other + 24);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var entry = Vector256.Create(entries[row]);
                float* from = block + (row * pitch);
                var values = Vector256.Load(from);
                sum0 = Vector256.FusedMultiplyAdd(entry, values, sum0);
                var even = other0 * values;
                values = Vector256.Load(from + 8);
                sum1 = Vector256.FusedMultiplyAdd(entry, values, sum1);
                var odd = other1 * values;
                values = Vector256.Load(from + 16);
                sum2 = Vector256.FusedMultiplyAdd(entry, values, sum2);
                even = Vector256.FusedMultiplyAdd(other2, values, even);
                values = Vector256.Load(from + 24);
                sum3 = Vector256.FusedMultiplyAdd(entry, values, sum3);
                odd = Vector256.FusedMultiplyAdd(other3, values, odd);
                var both = even + odd;
                ofEntries[row] += Vector128.Sum(both.GetLower() + both.GetUpper());
            }
            sum0.Store(target);
            sum1.Store(target + 8);
            sum2.Store(target + 16);
            sum3.Store(target + 24);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AccumulateAndDot1Of256(float* dots, float* others, int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector256.Load(target);
            var other = Vector256.Load(others + ((nint)t * Width) + at);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var values = Vector256.Load(Block + (row * Width) + at);
                sum = Vector256.FusedMultiplyAdd(Vector256.Create(Entries[(t * TargetStep) + row]), values, sum);
                dots[(t * TargetStep) + row] += Vector256.Sum(other * values);
            }
            sum.Store(target);
        }
    }

    private void AccumulateAndDotScalars(float* dots, float* others)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float entry = Entries[(t * TargetStep) + row];
                float dot = 0;
                for (int i = 0; i < Width; i++)
                {
                    float value = Block[(row * Width) + i];
                    Targets[((nint)t * Width) + i] += entry * value;
                    dot += others[((nint)t * Width) + i] * value;
                }
                dots[(t * TargetStep) + row] += dot;
            }
        }
    }
}
