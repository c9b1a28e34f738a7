using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

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

    /// <summary>Adds to each entry the dot product of its target with its row of the block.</summary>
    public void AddDots(SimdWidth width)
    {
        int at = 0;
        switch (width)
        {
            case SimdWidth.Vector512:
                for (; at <= Width - (8 * Vector512<float>.Count); at += 8 * Vector512<float>.Count)
                {
                    AddDots8Of512(at);
                }
                for (; at < Width; at += Vector512<float>.Count)
                {
                    AddDots1Of512(at);
                }
                break;
            case SimdWidth.Vector256:
                for (; at <= Width - (8 * Vector256<float>.Count); at += 8 * Vector256<float>.Count)
                {
                    AddDots8Of256(at);
                }
                for (; at < Width; at += Vector256<float>.Count)
                {
                    AddDots1Of256(at);
                }
                break;
            default:
                AddDotsOfScalars();
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
    private void AddDots8Of512(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            var target0 = Vector512.Load(target);
            var target1 = Vector512.Load(target + 16);
            var target2 = Vector512.Load(target + 32);
            var target3 = Vector512.Load(target + 48);
            var target4 = Vector512.Load(target + 64);
            var target5 = Vector512.Load(target + 80);
            var target6 = Vector512.Load(target + 96);
            var target7 = Vector512.Load(target + 112);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float* from = block + (row * pitch);
                var even = target0 * Vector512.Load(from);
                var odd = target1 * Vector512.Load(from + 16);
                even = Vector512.FusedMultiplyAdd(target2, Vector512.Load(from + 32), even);
                odd = Vector512.FusedMultiplyAdd(target3, Vector512.Load(from + 48), odd);
                even = Vector512.FusedMultiplyAdd(target4, Vector512.Load(from + 64), even);
                odd = Vector512.FusedMultiplyAdd(target5, Vector512.Load(from + 80), odd);
                even = Vector512.FusedMultiplyAdd(target6, Vector512.Load(from + 96), even);
                odd = Vector512.FusedMultiplyAdd(target7, Vector512.Load(from + 112), odd);
                var half = (even + odd).GetLower() + (even + odd).GetUpper();
                entries[row] += Vector128.Sum(half.GetLower() + half.GetUpper());
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddDots1Of512(int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            var target = Vector512.Load(Targets + ((nint)t * Width) + at);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                Entries[(t * TargetStep) + row] += Vector512.Sum(target * Vector512.Load(Block + (row * Width) + at));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddDots8Of256(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t * MaskStep];
            float* entries = Entries + (t * TargetStep);
            float* target = Targets + (t * pitch) + at;
            var target0 = Vector256.Load(target);
            var target1 = Vector256.Load(target + 8);
            var target2 = Vector256.Load(target + 16);
            var target3 = Vector256.Load(target + 24);
            var target4 = Vector256.Load(target + 32);
            var target5 = Vector256.Load(target + 40);
            var target6 = Vector256.Load(target + 48);
            var target7 = Vector256.Load(target + 56);
            for (; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float* from = block + (row * pitch);
                var even = target0 * Vector256.Load(from);
                var odd = target1 * Vector256.Load(from + 8);
                even = Vector256.FusedMultiplyAdd(target2, Vector256.Load(from + 16), even);
                odd = Vector256.FusedMultiplyAdd(target3, Vector256.Load(from + 24), odd);
                even = Vector256.FusedMultiplyAdd(target4, Vector256.Load(from + 32), even);
                odd = Vector256.FusedMultiplyAdd(target5, Vector256.Load(from + 40), odd);
                even = Vector256.FusedMultiplyAdd(target6, Vector256.Load(from + 48), even);
                odd = Vector256.FusedMultiplyAdd(target7, Vector256.Load(from + 56), odd);
                var sum = even + odd;
                entries[row] += Vector128.Sum(sum.GetLower() + sum.GetUpper());
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void AddDots1Of256(int at)
    {
        for (int t = 0; t < TargetCount; t++)
        {
            var target = Vector256.Load(Targets + ((nint)t * Width) + at);
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                Entries[(t * TargetStep) + row] += Vector256.Sum(target * Vector256.Load(Block + (row * Width) + at));
            }
        }
    }

    private void AddDotsOfScalars()
    {
        for (int t = 0; t < TargetCount; t++)
        {
            for (ulong mask = Masks[t * MaskStep]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                float sum = 0;
                for (int i = 0; i < Width; i++)
                {
                    sum += Targets[((nint)t * Width) + i] * Block[(row * Width) + i];
                }
                Entries[(t * TargetStep) + row] += sum;
            }
        }
    }
}
