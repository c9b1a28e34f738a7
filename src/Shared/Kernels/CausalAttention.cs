using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using V = System.Runtime.Intrinsics.Vector512<float>;

namespace Pipeline.Shared.Kernels;

/// <summary>What one call of <see cref="CausalAttention"/> is over.</summary>
/// <param name="Batch">B.</param>
/// <param name="Positions">T.</param>
/// <param name="Heads">H.</param>
/// <param name="KeyValueHeads">Heads of keys and values; they divide <paramref name="Heads"/>, which share them in groups.</param>
/// <param name="HeadWidth">Width of one head.</param>
/// <param name="RotaryWidth">The first dimensions of a head that are rotated; 0 where positions are not rotary.</param>
/// <param name="Scale">What scores are multiplied by.</param>
/// <param name="Window">How many positions a query sees, its own included; null for all before it.</param>
public readonly record struct AttentionShape(
    int Batch,
    int Positions,
    int Heads,
    int KeyValueHeads,
    int HeadWidth,
    int RotaryWidth,
    float Scale,
    int? Window
);

/// <summary>
/// Causal attention from the joined projection to the mixed values: rotary positions, scores, softmax and mix in one pass
/// per head, with nothing computed for keys that a block of queries cannot see. Its plain twin is the sequence of tensor
/// operations in <see cref="Models.TensorForward"/>. A row's result depends on that row and its keys alone, so that the
/// number of threads changes nothing.
/// </summary>
public static unsafe class CausalAttention
{
    private const int Lanes = 16;
    private const int Panel = 4 * Lanes;
    private const int Rows = 4;
    private const int Ahead = 8;

    /// <param name="qkvBTW">[B, T, (H + 2 kv heads) x head width]: query, key and value of a position in one row.</param>
    /// <param name="cosTR">[T, rotary width / 2]; not read where nothing is rotated.</param>
    /// <param name="sinTR">The same of the sine.</param>
    /// <param name="mixedBTA">Receives [B, T, H x head width].</param>
    /// <param name="shape">The sizes.</param>
    /// <param name="threads">At most so many.</param>
    public static void Run(
        float* qkvBTW,
        float* cosTR,
        float* sinTR,
        float* mixedBTA,
        AttentionShape shape,
        int threads
    ) =>
        Pieces.Run(
            shape.Batch * shape.KeyValueHeads,
            1,
            threads,
            () => new Scratch(shape),
            (piece, _, scratch) =>
            {
                int batch = piece / shape.KeyValueHeads;
                new Group(qkvBTW, cosTR, sinTR, mixedBTA, shape, scratch, batch, piece % shape.KeyValueHeads).Run();
            },
            scratch => scratch.Dispose()
        );

    /// <summary>The heads of one sequence that share keys and values.</summary>
    private readonly struct Group(
        float* qkvBTW,
        float* cosTR,
        float* sinTR,
        float* mixedBTA,
        AttentionShape shape,
        Scratch scratch,
        int batch,
        int keyHead
    )
    {
        private readonly int headWidth = shape.HeadWidth;
        private readonly int valueWidth = RoundUp(shape.HeadWidth, Lanes);
        private readonly long rowWidth = (long)(shape.Heads + (2 * shape.KeyValueHeads)) * shape.HeadWidth;

        public void Run()
        {
            PackKeysAndValues();
            int share = shape.Heads / shape.KeyValueHeads;
            for (int head = keyHead * share; head < (keyHead + 1) * share; head++)
            {
                for (int first = 0; first < shape.Positions; first += Rows)
                {
                    Attend(head, first);
                }
            }
        }

        private float* Row(int position, int part) =>
            qkvBTW + ((((long)batch * shape.Positions) + position) * rowWidth) + ((long)part * headWidth);

        /// <summary>Keys as panels [head width, 64], values as [T, head width rounded up].</summary>
        private void PackKeysAndValues()
        {
            for (int position = 0; position < shape.Positions; position++)
            {
                Prefetch(position + Ahead);
                Rotate(Row(position, shape.Heads + keyHead), position, 1, scratch.Query);
                float* panel = scratch.Keys + ((long)(position / Panel) * Panel * headWidth) + (position % Panel);
                for (int i = 0; i < headWidth; i++)
                {
                    panel[i * Panel] = scratch.Query[i];
                }
                float* value = Row(position, shape.Heads + shape.KeyValueHeads + keyHead);
                Scale(value, 1, scratch.Values + ((long)position * valueWidth), headWidth);
            }
        }

        /// <summary>Rows lie a whole projection apart, too far for the processor to fetch them by itself.</summary>
        private void Prefetch(int position)
        {
            if (!Sse.IsSupported || position >= shape.Positions)
            {
                return;
            }
            int share = shape.Heads / shape.KeyValueHeads;
            float* queries = Row(position, keyHead * share);
            float* key = Row(position, shape.Heads + keyHead);
            float* value = Row(position, shape.Heads + shape.KeyValueHeads + keyHead);
            for (int i = 0; i < share * headWidth; i += Lanes)
            {
                Sse.Prefetch1(queries + i); // read after all keys
            }
            for (int i = 0; i < headWidth; i += Lanes)
            {
                Sse.Prefetch0(key + i);
                Sse.Prefetch0(value + i);
            }
        }

        /// <summary>Four queries of one head, from <paramref name="first"/> on.</summary>
        private void Attend(int head, int first)
        {
            int rows = Math.Min(Rows, shape.Positions - first);
            for (int r = 0; r < rows; r++)
            {
                Rotate(Row(first + r, head), first + r, shape.Scale * FastExp.Log2E, scratch.Query + (r * headWidth));
            }
            int from = FirstKey(first) / Panel * Panel;
            int to = RoundUp(first + rows, Lanes);
            for (int key = from; key < to; )
            {
                float* keys = scratch.Keys + ((long)(key / Panel) * Panel * headWidth) + (key % Panel);
                float* scores = scratch.Scores + key;
                int left = to - key;
                int width =
                    key % Panel == 0 && left >= Panel ? Panel
                    : left >= 2 * Lanes ? 2 * Lanes
                    : Lanes;
                Multiply(scratch.Query, headWidth, keys, Panel, scores, scratch.ScoreWidth, headWidth, width);
                key += width;
            }
            float* sums = stackalloc float[Rows];
            for (int r = 0; r < rows; r++)
            {
                float* scores = scratch.Scores + ((long)r * scratch.ScoreWidth);
                sums[r] = Softmax(scores, from, FirstKey(first + r), first + r + 1, to);
            }
            for (int column = 0; column < valueWidth; )
            {
                int left = valueWidth - column;
                int width =
                    left >= Panel ? Panel
                    : left >= 2 * Lanes ? 2 * Lanes
                    : Lanes;
                Multiply(
                    scratch.Scores + from,
                    scratch.ScoreWidth,
                    scratch.Values + ((long)from * valueWidth) + column,
                    valueWidth,
                    scratch.Mixed + column,
                    valueWidth,
                    to - from,
                    width
                );
                column += width;
            }
            for (int r = 0; r < rows; r++)
            {
                long position = ((long)batch * shape.Positions) + first + r;
                float* mixed = mixedBTA + (((position * shape.Heads) + head) * headWidth);
                float* source = scratch.Mixed + (r * valueWidth);
                Scale(source, 1 / sums[r], mixed, headWidth);
            }
        }

        private int FirstKey(int query) => shape.Window is { } window ? Math.Max(0, query - window + 1) : 0;

        /// <summary>x rotated to its position (halves of the rotary dimensions, as Hugging Face pairs them), times a factor.</summary>
        private void Rotate(float* x, int position, float factor, float* rotated)
        {
            int half = shape.RotaryWidth / 2;
            float* cos = cosTR + ((long)position * half);
            float* sin = sinTR + ((long)position * half);
            int i = 0;
            for (; i <= half - Lanes; i += Lanes)
            {
                var scale = Vector512.Create(factor);
                var (low, high) = (Vector512.Load(x + i), Vector512.Load(x + half + i));
                var (c, s) = (Vector512.Load(cos + i), Vector512.Load(sin + i));
                (((low * c) - (high * s)) * scale).Store(rotated + i);
                (((high * c) + (low * s)) * scale).Store(rotated + half + i);
            }
            for (; i < half; i++)
            {
                rotated[i] = ((x[i] * cos[i]) - (x[half + i] * sin[i])) * factor;
                rotated[half + i] = ((x[half + i] * cos[i]) + (x[i] * sin[i])) * factor;
            }
            Scale(x + shape.RotaryWidth, factor, rotated + shape.RotaryWidth, headWidth - shape.RotaryWidth);
        }
    }

    /// <summary>target = source x factor.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Scale(float* source, float factor, float* target, int length)
    {
        int i = 0;
        for (; i <= length - Lanes; i += Lanes)
        {
            (Vector512.Load(source + i) * Vector512.Create(factor)).Store(target + i);
        }
        for (; i < length; i++)
        {
            target[i] = source[i] * factor;
        }
    }

    /// <summary>
    /// Scores from .. to, multiples of 16, become 2^(score - largest), those before <paramref name="first"/> and from
    /// <paramref name="end"/> on 0; returns their sum.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static float Softmax(float* scores, int from, int first, int end, int to)
    {
        if (first > from)
        {
            new Span<float>(scores + from, first - from).Fill(float.NegativeInfinity);
        }
        int last = (end - 1) / Lanes * Lanes;
        var seen = Vector512.LessThan(Vector512<int>.Indices, Vector512.Create(end - last)).AsSingle();
        var masked = Vector512.ConditionalSelect(
            seen,
            Vector512.Load(scores + last),
            Vector512.Create(float.NegativeInfinity)
        );
        var largest = masked;
        for (int i = from; i < last; i += Lanes)
        {
            largest = Vector512.MaxNative(largest, Vector512.Load(scores + i));
        }
        // Where a score is NaN the largest may be any; the powers are NaN either way.
        var half = Vector256.MaxNative(largest.GetLower(), largest.GetUpper());
        var quarter = Vector128.MaxNative(half.GetLower(), half.GetUpper());
        var eighth = Vector64.MaxNative(quarter.GetLower(), quarter.GetUpper());
        var top = Vector512.Create(float.MaxNative(eighth[0], eighth[1]));
        var sum = FastExp.Exp2(masked - top) & seen;
        sum.Store(scores + last);
        for (int i = from; i < last; i += Lanes)
        {
            var power = FastExp.Exp2(Vector512.Load(scores + i) - top);
            power.Store(scores + i);
            sum += power;
        }
        for (int i = last + Lanes; i < to; i += Lanes)
        {
            V.Zero.Store(scores + i);
        }
        if (first > from)
        {
            new Span<float>(scores + from, first - from).Clear();
        }
        return Vector512.Sum(sum);
    }

    /// <summary>c [4, width] = a [4, inner] b [inner, width], each with its row's stride; the width is 16, 32 or 64.</summary>
    private static void Multiply(float* a, int aRow, float* b, int bRow, float* c, int cRow, int inner, int width)
    {
        switch (width)
        {
            case Panel:
                Multiply64(a, aRow, b, bRow, c, cRow, inner);
                break;
            case 2 * Lanes:
                Multiply32(a, aRow, b, bRow, c, cRow, inner);
                break;
            default:
                Multiply16(a, aRow, b, bRow, c, cRow, inner);
                break;
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply64(float* a, int aRow, float* b, int bRow, float* c, int cRow, int inner)
    {
        var (c00, c01, c02, c03) = (V.Zero, V.Zero, V.Zero, V.Zero);
        var (c10, c11, c12, c13) = (V.Zero, V.Zero, V.Zero, V.Zero);
        var (c20, c21, c22, c23) = (V.Zero, V.Zero, V.Zero, V.Zero);
        var (c30, c31, c32, c33) = (V.Zero, V.Zero, V.Zero, V.Zero);
        float* a1 = a + aRow;
        float* a2 = a1 + aRow;
        float* a3 = a2 + aRow;
        for (int k = 0; k < inner; k++, b += bRow)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + Lanes);
            var b2 = Vector512.Load(b + (2 * Lanes));
            var b3 = Vector512.Load(b + (3 * Lanes));
            var x = Vector512.Create(a[k]);
            c00 = Vector512.FusedMultiplyAdd(x, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(x, b1, c01);
            c02 = Vector512.FusedMultiplyAdd(x, b2, c02);
            c03 = Vector512.FusedMultiplyAdd(x, b3, c03);
            x = Vector512.Create(a1[k]);
            c10 = Vector512.FusedMultiplyAdd(x, b0, c10);
            c11 = Vector512.FusedMultiplyAdd(x, b1, c11);
            c12 = Vector512.FusedMultiplyAdd(x, b2, c12);
            c13 = Vector512.FusedMultiplyAdd(x, b3, c13);
            x = Vector512.Create(a2[k]);
            c20 = Vector512.FusedMultiplyAdd(x, b0, c20);
            c21 = Vector512.FusedMultiplyAdd(x, b1, c21);
            c22 = Vector512.FusedMultiplyAdd(x, b2, c22);
            c23 = Vector512.FusedMultiplyAdd(x, b3, c23);
            x = Vector512.Create(a3[k]);
            c30 = Vector512.FusedMultiplyAdd(x, b0, c30);
            c31 = Vector512.FusedMultiplyAdd(x, b1, c31);
            c32 = Vector512.FusedMultiplyAdd(x, b2, c32);
            c33 = Vector512.FusedMultiplyAdd(x, b3, c33);
        }
        Store64(c, c00, c01, c02, c03);
        Store64(c + cRow, c10, c11, c12, c13);
        Store64(c + (2 * cRow), c20, c21, c22, c23);
        Store64(c + (3 * cRow), c30, c31, c32, c33);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store64(
        float* c,
        Vector512<float> c0,
        Vector512<float> c1,
        Vector512<float> c2,
        Vector512<float> c3
    )
    {
        c0.Store(c);
        c1.Store(c + Lanes);
        c2.Store(c + (2 * Lanes));
        c3.Store(c + (3 * Lanes));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply32(float* a, int aRow, float* b, int bRow, float* c, int cRow, int inner)
    {
        var (c00, c01, c10, c11) = (V.Zero, V.Zero, V.Zero, V.Zero);
        var (c20, c21, c30, c31) = (V.Zero, V.Zero, V.Zero, V.Zero);
        float* a1 = a + aRow;
        float* a2 = a1 + aRow;
        float* a3 = a2 + aRow;
        for (int k = 0; k < inner; k++, b += bRow)
        {
            var b0 = Vector512.Load(b);
            var b1 = Vector512.Load(b + Lanes);
            var x = Vector512.Create(a[k]);
            c00 = Vector512.FusedMultiplyAdd(x, b0, c00);
            c01 = Vector512.FusedMultiplyAdd(x, b1, c01);
            x = Vector512.Create(a1[k]);
            c10 = Vector512.FusedMultiplyAdd(x, b0, c10);
            c11 = Vector512.FusedMultiplyAdd(x, b1, c11);
            x = Vector512.Create(a2[k]);
            c20 = Vector512.FusedMultiplyAdd(x, b0, c20);
            c21 = Vector512.FusedMultiplyAdd(x, b1, c21);
            x = Vector512.Create(a3[k]);
            c30 = Vector512.FusedMultiplyAdd(x, b0, c30);
            c31 = Vector512.FusedMultiplyAdd(x, b1, c31);
        }
        c00.Store(c);
        c01.Store(c + Lanes);
        c10.Store(c + cRow);
        c11.Store(c + cRow + Lanes);
        c20.Store(c + (2 * cRow));
        c21.Store(c + (2 * cRow) + Lanes);
        c30.Store(c + (3 * cRow));
        c31.Store(c + (3 * cRow) + Lanes);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Multiply16(float* a, int aRow, float* b, int bRow, float* c, int cRow, int inner)
    {
        var (c0, c1, c2, c3) = (V.Zero, V.Zero, V.Zero, V.Zero);
        float* a1 = a + aRow;
        float* a2 = a1 + aRow;
        float* a3 = a2 + aRow;
        for (int k = 0; k < inner; k++, b += bRow)
        {
            var x = Vector512.Load(b);
            c0 = Vector512.FusedMultiplyAdd(Vector512.Create(a[k]), x, c0);
            c1 = Vector512.FusedMultiplyAdd(Vector512.Create(a1[k]), x, c1);
            c2 = Vector512.FusedMultiplyAdd(Vector512.Create(a2[k]), x, c2);
            c3 = Vector512.FusedMultiplyAdd(Vector512.Create(a3[k]), x, c3);
        }
        c0.Store(c);
        c1.Store(c + cRow);
        c2.Store(c + (2 * cRow));
        c3.Store(c + (3 * cRow));
    }

    private static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;

    /// <summary>One thread's memory, aligned to cache lines and zero at first: what is beyond T or the head's width stays 0.</summary>
    private sealed class Scratch : IDisposable
    {
        private readonly float* memory;

        public Scratch(AttentionShape shape)
        {
            int keys = RoundUp(shape.Positions, Panel);
            ScoreWidth = keys + Lanes;
            long keyItems = (long)keys * shape.HeadWidth;
            int valueWidth = RoundUp(shape.HeadWidth, Lanes);
            long valueItems = (long)keys * valueWidth;
            long scoreItems = (long)Rows * ScoreWidth;
            long rowItems = (long)Rows * valueWidth;
            nuint bytes = (nuint)((keyItems + valueItems + scoreItems + (2 * rowItems)) * sizeof(float));
            memory = (float*)NativeMemory.AlignedAlloc(bytes, 64);
            NativeMemory.Clear(memory, bytes);
            Keys = memory;
            Values = Keys + keyItems;
            Scores = Values + valueItems;
            Query = Scores + scoreItems;
            Mixed = Query + rowItems;
        }

        public float* Keys { get; }
        public float* Values { get; }
        public float* Scores { get; }
        public int ScoreWidth { get; }
        public float* Query { get; }
        public float* Mixed { get; }

        public void Dispose() => NativeMemory.AlignedFree(memory);
    }
}
