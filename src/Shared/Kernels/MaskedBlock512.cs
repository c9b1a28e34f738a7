using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// In registers of 512 bits. Products are summed up four entries at a time: lanes of one vector take as many operations as
/// those of four. What holds vectors calls nothing that is not inlined, since a call would spill them.
/// </summary>
public readonly unsafe partial struct MaskedBlock
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Dot8Of512(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        float* entries = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t];
            float* target = Targets + (t * pitch) + at;
            var part0 = Vector512.Load(target);
            var part1 = Vector512.Load(target + 16);
            var part2 = Vector512.Load(target + 32);
            var part3 = Vector512.Load(target + 48);
            var part4 = Vector512.Load(target + 64);
            var part5 = Vector512.Load(target + 80);
            var part6 = Vector512.Load(target + 96);
            var part7 = Vector512.Load(target + 112);
            for (int fours = BitOperations.PopCount(mask) / 4; fours > 0; fours--, entries += 4)
            {
                nint row0 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row1 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row2 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row3 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                var product0 = Product(block + (row0 * pitch), part0, part1, part2, part3, part4, part5, part6, part7);
                var product1 = Product(block + (row1 * pitch), part0, part1, part2, part3, part4, part5, part6, part7);
                var product2 = Product(block + (row2 * pitch), part0, part1, part2, part3, part4, part5, part6, part7);
                var product3 = Product(block + (row3 * pitch), part0, part1, part2, part3, part4, part5, part6, part7);
                (Vector128.Load(entries) + Sums(product0, product1, product2, product3)).Store(entries);
            }
            for (; mask != 0; mask &= mask - 1, entries++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                *entries += Vector512.Sum(
                    Product(block + (row * pitch), part0, part1, part2, part3, part4, part5, part6, part7)
                );
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Dot1Of512(int at)
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            var target = Vector512.Load(Targets + ((nint)t * Width) + at);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                *entry++ += Vector512.Sum(target * Vector512.Load(Block + (row * Width) + at));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Accumulate8Of512(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + (t * pitch) + at;
            var sum0 = Vector512.Load(target);
            var sum1 = Vector512.Load(target + 16);
            var sum2 = Vector512.Load(target + 32);
            var sum3 = Vector512.Load(target + 48);
            var sum4 = Vector512.Load(target + 64);
            var sum5 = Vector512.Load(target + 80);
            var sum6 = Vector512.Load(target + 96);
            var sum7 = Vector512.Load(target + 112);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                float* from = block + (BitOperations.TrailingZeroCount(mask) * pitch);
                var factor = Vector512.Create(*entry++);
                sum0 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from), sum0);
                sum1 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 16), sum1);
                sum2 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 32), sum2);
                sum3 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 48), sum3);
                sum4 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 64), sum4);
                sum5 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 80), sum5);
                sum6 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 96), sum6);
                sum7 = Vector512.FusedMultiplyAdd(factor, Vector512.Load(from + 112), sum7);
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Accumulate1Of512(int at)
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector512.Load(target);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                sum = Vector512.FusedMultiplyAdd(
                    Vector512.Create(*entry++),
                    Vector512.Load(Block + (row * Width) + at),
                    sum
                );
            }
            sum.Store(target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void AccumulateAndDot8Of512(float* dots, float* others, int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        float* entries = Entries;
        float* ofEntries = dots;
        for (int t = 0; t < TargetCount; t++)
        {
            ulong mask = Masks[t];
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
            for (int fours = BitOperations.PopCount(mask) / 4; fours > 0; fours--, entries += 4, ofEntries += 4)
            {
                nint row0 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row1 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row2 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                nint row3 = BitOperations.TrailingZeroCount(mask);
                mask &= mask - 1;
                var product0 = AddAndProduct(
                    block + (row0 * pitch),
                    entries[0],
                    ref sum0,
                    ref sum1,
                    ref sum2,
                    ref sum3,
                    ref sum4,
                    ref sum5,
                    ref sum6,
                    ref sum7,
                    other0,
                    other1,
                    other2,
                    other3,
                    other4,
                    other5,
                    other6,
                    other7
                );
                var product1 = AddAndProduct(
                    block + (row1 * pitch),
                    entries[1],
                    ref sum0,
                    ref sum1,
                    ref sum2,
                    ref sum3,
                    ref sum4,
                    ref sum5,
                    ref sum6,
                    ref sum7,
                    other0,
                    other1,
                    other2,
                    other3,
                    other4,
                    other5,
                    other6,
                    other7
                );
                var product2 = AddAndProduct(
                    block + (row2 * pitch),
                    entries[2],
                    ref sum0,
                    ref sum1,
                    ref sum2,
                    ref sum3,
                    ref sum4,
                    ref sum5,
                    ref sum6,
                    ref sum7,
                    other0,
                    other1,
                    other2,
                    other3,
                    other4,
                    other5,
                    other6,
                    other7
                );
                var product3 = AddAndProduct(
                    block + (row3 * pitch),
                    entries[3],
                    ref sum0,
                    ref sum1,
                    ref sum2,
                    ref sum3,
                    ref sum4,
                    ref sum5,
                    ref sum6,
                    ref sum7,
                    other0,
                    other1,
                    other2,
                    other3,
                    other4,
                    other5,
                    other6,
                    other7
                );
                (Vector128.Load(ofEntries) + Sums(product0, product1, product2, product3)).Store(ofEntries);
            }
            for (; mask != 0; mask &= mask - 1, entries++, ofEntries++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                *ofEntries += Vector512.Sum(
                    AddAndProduct(
                        block + (row * pitch),
                        entries[0],
                        ref sum0,
                        ref sum1,
                        ref sum2,
                        ref sum3,
                        ref sum4,
                        ref sum5,
                        ref sum6,
                        ref sum7,
                        other0,
                        other1,
                        other2,
                        other3,
                        other4,
                        other5,
                        other6,
                        other7
                    )
                );
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void AccumulateAndDot1Of512(float* dots, float* others, int at)
    {
        int entry = 0;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector512.Load(target);
            var other = Vector512.Load(others + ((nint)t * Width) + at);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1, entry++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var values = Vector512.Load(Block + (row * Width) + at);
                sum = Vector512.FusedMultiplyAdd(Vector512.Create(Entries[entry]), values, sum);
                dots[entry] += Vector512.Sum(other * values);
            }
            sum.Store(target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Pack48Of512(ulong mask, float* values, float* packed)
    {
        var lanes = Vector512.Create(1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768);
        for (int at = 0; at < Panels.BlockRows; at += Vector512<float>.Count, mask >>= Vector512<float>.Count)
        {
            var named = Vector512.Equals(Vector512.Create((int)mask) & lanes, lanes).AsSingle();
            Avx512F.Compress(Vector512<float>.Zero, named, Vector512.Load(values + at)).Store(packed);
            packed += BitOperations.PopCount((ushort)mask);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Product(
        float* from,
        Vector512<float> part0,
        Vector512<float> part1,
        Vector512<float> part2,
        Vector512<float> part3,
        Vector512<float> part4,
        Vector512<float> part5,
        Vector512<float> part6,
        Vector512<float> part7
    )
    {
        var even = part0 * Vector512.Load(from);
        var odd = part1 * Vector512.Load(from + 16);
        even = Vector512.FusedMultiplyAdd(part2, Vector512.Load(from + 32), even);
        odd = Vector512.FusedMultiplyAdd(part3, Vector512.Load(from + 48), odd);
        even = Vector512.FusedMultiplyAdd(part4, Vector512.Load(from + 64), even);
        odd = Vector512.FusedMultiplyAdd(part5, Vector512.Load(from + 80), odd);
        even = Vector512.FusedMultiplyAdd(part6, Vector512.Load(from + 96), even);
        odd = Vector512.FusedMultiplyAdd(part7, Vector512.Load(from + 112), odd);
        return even + odd;
    }

    /// <summary>Adds a row times its entry to sums, and multiplies it with others.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> AddAndProduct(
        float* from,
        float entry,
        ref Vector512<float> sum0,
        ref Vector512<float> sum1,
        ref Vector512<float> sum2,
        ref Vector512<float> sum3,
        ref Vector512<float> sum4,
        ref Vector512<float> sum5,
        ref Vector512<float> sum6,
        ref Vector512<float> sum7,
        Vector512<float> other0,
        Vector512<float> other1,
        Vector512<float> other2,
        Vector512<float> other3,
        Vector512<float> other4,
        Vector512<float> other5,
        Vector512<float> other6,
        Vector512<float> other7
    )
    {
        var factor = Vector512.Create(entry);
        var values = Vector512.Load(from);
        sum0 = Vector512.FusedMultiplyAdd(factor, values, sum0);
        var even = other0 * values;
        values = Vector512.Load(from + 16);
        sum1 = Vector512.FusedMultiplyAdd(factor, values, sum1);
        var odd = other1 * values;
        values = Vector512.Load(from + 32);
        sum2 = Vector512.FusedMultiplyAdd(factor, values, sum2);
        even = Vector512.FusedMultiplyAdd(other2, values, even);
        values = Vector512.Load(from + 48);
        sum3 = Vector512.FusedMultiplyAdd(factor, values, sum3);
        odd = Vector512.FusedMultiplyAdd(other3, values, odd);
        values = Vector512.Load(from + 64);
        sum4 = Vector512.FusedMultiplyAdd(factor, values, sum4);
        even = Vector512.FusedMultiplyAdd(other4, values, even);
        values = Vector512.Load(from + 80);
        sum5 = Vector512.FusedMultiplyAdd(factor, values, sum5);
        odd = Vector512.FusedMultiplyAdd(other5, values, odd);
        values = Vector512.Load(from + 96);
        sum6 = Vector512.FusedMultiplyAdd(factor, values, sum6);
        even = Vector512.FusedMultiplyAdd(other6, values, even);
        values = Vector512.Load(from + 112);
        sum7 = Vector512.FusedMultiplyAdd(factor, values, sum7);
        odd = Vector512.FusedMultiplyAdd(other7, values, odd);
        return even + odd;
    }

    /// <summary>The sum of each of four vectors.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Sums(Vector512<float> a, Vector512<float> b, Vector512<float> c, Vector512<float> d)
    {
        var ab = Avx512F.UnpackLow(a, b) + Avx512F.UnpackHigh(a, b);
        var cd = Avx512F.UnpackLow(c, d) + Avx512F.UnpackHigh(c, d);
        var abcd =
            Avx512F.UnpackLow(ab.AsDouble(), cd.AsDouble()).AsSingle()
            + Avx512F.UnpackHigh(ab.AsDouble(), cd.AsDouble()).AsSingle();
        var half = abcd.GetLower() + abcd.GetUpper();
        return half.GetLower() + half.GetUpper();
    }
}
