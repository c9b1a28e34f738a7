using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>In registers of 256 bits.</summary>
public readonly unsafe partial struct MaskedBlock
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Dot8Of256(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + (t * pitch) + at;
            var part0 = Vector256.Load(target);
            var part1 = Vector256.Load(target + 8);
            var part2 = Vector256.Load(target + 16);
            var part3 = Vector256.Load(target + 24);
            var part4 = Vector256.Load(target + 32);
            var part5 = Vector256.Load(target + 40);
            var part6 = Vector256.Load(target + 48);
            var part7 = Vector256.Load(target + 56);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                float* from = block + (BitOperations.TrailingZeroCount(mask) * pitch);
                var even = part0 * Vector256.Load(from);
                var odd = part1 * Vector256.Load(from + 8);
                even = Vector256.FusedMultiplyAdd(part2, Vector256.Load(from + 16), even);
                odd = Vector256.FusedMultiplyAdd(part3, Vector256.Load(from + 24), odd);
                even = Vector256.FusedMultiplyAdd(part4, Vector256.Load(from + 32), even);
                odd = Vector256.FusedMultiplyAdd(part5, Vector256.Load(from + 40), odd);
                even = Vector256.FusedMultiplyAdd(part6, Vector256.Load(from + 48), even);
                odd = Vector256.FusedMultiplyAdd(part7, Vector256.Load(from + 56), odd);
                var both = even + odd;
                *entry++ += Vector128.Sum(both.GetLower() + both.GetUpper());
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Dot1Of256(int at)
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            var target = Vector256.Load(Targets + ((nint)t * Width) + at);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                *entry++ += Vector256.Sum(target * Vector256.Load(Block + (row * Width) + at));
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Accumulate8Of256(int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + (t * pitch) + at;
            var sum0 = Vector256.Load(target);
            var sum1 = Vector256.Load(target + 8);
            var sum2 = Vector256.Load(target + 16);
            var sum3 = Vector256.Load(target + 24);
            var sum4 = Vector256.Load(target + 32);
            var sum5 = Vector256.Load(target + 40);
            var sum6 = Vector256.Load(target + 48);
            var sum7 = Vector256.Load(target + 56);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                float* from = block + (BitOperations.TrailingZeroCount(mask) * pitch);
                var factor = Vector256.Create(*entry++);
                sum0 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from), sum0);
                sum1 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 8), sum1);
                sum2 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 16), sum2);
                sum3 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 24), sum3);
                sum4 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 32), sum4);
                sum5 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 40), sum5);
                sum6 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 48), sum6);
                sum7 = Vector256.FusedMultiplyAdd(factor, Vector256.Load(from + 56), sum7);
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

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void Accumulate1Of256(int at)
    {
        float* entry = Entries;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector256.Load(target);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                sum = Vector256.FusedMultiplyAdd(
                    Vector256.Create(*entry++),
                    Vector256.Load(Block + (row * Width) + at),
                    sum
                );
            }
            sum.Store(target);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void AccumulateAndDot4Of256(float* dots, float* others, int at)
    {
        nint pitch = Width;
        float* block = Block + at;
        int entry = 0;
        for (int t = 0; t < TargetCount; t++)
        {
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
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1, entry++)
            {
                float* from = block + (BitOperations.TrailingZeroCount(mask) * pitch);
                var factor = Vector256.Create(Entries[entry]);
                var values = Vector256.Load(from);
                sum0 = Vector256.FusedMultiplyAdd(factor, values, sum0);
                var even = other0 * values;
                values = Vector256.Load(from + 8);
                sum1 = Vector256.FusedMultiplyAdd(factor, values, sum1);
                var odd = other1 * values;
                values = Vector256.Load(from + 16);
                sum2 = Vector256.FusedMultiplyAdd(factor, values, sum2);
                even = Vector256.FusedMultiplyAdd(other2, values, even);
                values = Vector256.Load(from + 24);
                sum3 = Vector256.FusedMultiplyAdd(factor, values, sum3);
                odd = Vector256.FusedMultiplyAdd(other3, values, odd);
                var both = even + odd;
                dots[entry] += Vector128.Sum(both.GetLower() + both.GetUpper());
            }
            sum0.Store(target);
            sum1.Store(target + 8);
            sum2.Store(target + 16);
            sum3.Store(target + 24);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private void AccumulateAndDot1Of256(float* dots, float* others, int at)
    {
        int entry = 0;
        for (int t = 0; t < TargetCount; t++)
        {
            float* target = Targets + ((nint)t * Width) + at;
            var sum = Vector256.Load(target);
            var other = Vector256.Load(others + ((nint)t * Width) + at);
            for (ulong mask = Masks[t]; mask != 0; mask &= mask - 1, entry++)
            {
                nint row = BitOperations.TrailingZeroCount(mask);
                var values = Vector256.Load(Block + (row * Width) + at);
                sum = Vector256.FusedMultiplyAdd(Vector256.Create(Entries[entry]), values, sum);
                dots[entry] += Vector256.Sum(other * values);
            }
            sum.Store(target);
        }
    }
}
