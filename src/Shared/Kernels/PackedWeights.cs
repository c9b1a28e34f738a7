using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using V = System.Runtime.Intrinsics.Vector512<float>;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// The weights of y = x Wᵀ + b laid out for products with many rows: panels of 64 outputs, in which what is multiplied at
/// a time lies together. Its plain twin is <c>torch.nn.functional.linear</c>. A sum runs along the inputs in order, 512 of
/// them at a time, so that a row's result depends on that row alone and no number of threads changes it. Weights may be
/// packed by stretches of the inputs, of a multiple of 512, whose products are added up to the very same sums.
/// </summary>
/// <remarks>512-bit vectors only. Loops that hold vectors call nothing, since a call would spill them.</remarks>
internal readonly unsafe struct PackedWeights
{
    /// <summary>Rows multiplied at a time.</summary>
    public const int Rows = 6;

    /// <summary>Outputs of a panel.</summary>
    public const int Columns = 64;

    /// <summary>Inputs multiplied at a time: a panel's part and the rows of a piece of work stay in a core's cache.</summary>
    public const int Depth = 512;

    private const int Lanes = 16;

    private readonly int inputs;
    private readonly int outputs;
    private readonly float* panels; // [panel][I][64], outputs beyond O are 0
    private readonly float* bias; // [panels x 64]

    private PackedWeights(int inputs, int outputs, float* memory)
    {
        (this.inputs, this.outputs) = (inputs, outputs);
        panels = memory;
        bias = memory + ((long)PanelsOf(outputs) * Columns * inputs);
    }

    /// <summary>Values that packing takes.</summary>
    public static long Length(long inputs, long outputs) => PanelsOf(outputs) * Columns * (inputs + 1);

    /// <param name="weightOI">[O, I].</param>
    /// <param name="weightStep">From one row of the weights to the next.</param>
    /// <param name="biasO">[O]; null for none.</param>
    /// <param name="inputs">I.</param>
    /// <param name="outputs">O.</param>
    /// <param name="memory">Receives <see cref="Length"/> values; aligned to cache lines.</param>
    /// <param name="threads">At most so many.</param>
    public static PackedWeights Pack(
        float* weightOI,
        nint weightStep,
        float* biasO,
        int inputs,
        int outputs,
        float* memory,
        int threads
    )
    {
        var packed = new PackedWeights(inputs, outputs, memory);
        new Span<float>(packed.bias, (int)PanelsOf(outputs) * Columns).Clear();
        if (biasO != null)
        {
            new ReadOnlySpan<float>(biasO, outputs).CopyTo(new Span<float>(packed.bias, outputs));
        }
        Pieces.Run((int)PanelsOf(outputs), threads, panel => packed.PackPanel(weightOI, weightStep, panel));
        return packed;
    }

    /// <summary>y = x Wᵀ + b, or y += x Wᵀ.</summary>
    /// <param name="x">[N, I].</param>
    /// <param name="xStep">From one row of x to the next.</param>
    /// <param name="y">Receives [N, O].</param>
    /// <param name="yStep">From one row of y to the next.</param>
    /// <param name="rows">N.</param>
    /// <param name="add">To what y holds, without the bias.</param>
    public void Multiply(float* x, nint xStep, float* y, nint yStep, int rows, bool add = false)
    {
        for (int start = 0; start < inputs; start += Depth)
        {
            for (int column = 0; column < outputs; column += Columns)
            {
                int depth = Math.Min(Depth, inputs - start);
                float* panel = panels + ((long)column * inputs) + ((long)start * Columns);
                for (int row = 0; row < rows; row += Rows)
                {
                    float* to = y + (row * yStep) + column;
                    bool begins = start == 0 && !add;
                    float* from = begins ? bias + column : to;
                    nint fromStep = begins ? 0 : yStep;
                    float* of = x + (row * xStep) + start;
                    var (height, width) = (Math.Min(Rows, rows - row), Math.Min(Columns, outputs - column));
                    if (height == Rows && width == Columns)
                    {
                        Multiply6By64(of, xStep, panel, depth, from, fromStep, to, yStep);
                    }
                    else
                    {
                        MultiplyEdge(of, xStep, panel, depth, from, fromStep, to, yStep, height, width);
                    }
                }
            }
        }
    }

    private static long PanelsOf(long outputs) => (outputs + Columns - 1) / Columns;

    private void PackPanel(float* weightOI, nint weightStep, int panel)
    {
        const int Stretch = 2 * Lanes;
        int first = panel * Columns;
        int width = Math.Min(Columns, outputs - first);
        float* to = panels + ((long)first * inputs);
        if (width < Columns)
        {
            new Span<float>(to, Columns * inputs).Clear();
        }
        for (int start = 0; start < inputs; start += Stretch)
        {
            int end = Math.Min(inputs, start + Stretch);
            for (int column = 0; column < width; column++)
            {
                float* row = weightOI + ((first + column) * weightStep);
                if (Sse.IsSupported)
                {
                    // Rows lie too far apart for the processor to fetch them by itself.
                    Sse.Prefetch0(row + end);
                    Sse.Prefetch0(row + end + Lanes);
                }
                for (int i = start; i < end; i++)
                {
                    to[((long)i * Columns) + column] = row[i];
                }
            }
        }
    }

    /// <summary>Fewer than 6 rows, or fewer than 64 outputs: a whole tile beside them, of which they are taken.</summary>
    private static void MultiplyEdge(
        float* x,
        nint xStep,
        float* w,
        int depth,
        float* from,
        nint fromStep,
        float* y,
        nint yStep,
        int height,
        int width
    )
    {
        float* rows = stackalloc float[Rows * Depth];
        float* tile = stackalloc float[Rows * Columns];
        for (int row = 0; row < height; row++)
        {
            Copy(x + (row * xStep), rows + (row * Depth), depth);
            Copy(from + (row * fromStep), tile + (row * Columns), width);
        }
        Multiply6By64(rows, Depth, w, depth, tile, Columns, tile, Columns);
        for (int row = 0; row < height; row++)
        {
            Copy(tile + (row * Columns), y + (row * yStep), width);
        }
    }

    private static void Copy(float* from, float* to, int length) =>
        new ReadOnlySpan<float>(from, length).CopyTo(new Span<float>(to, length));

    /// <summary>y = from + x W, for six rows of x and from, y and as many values of W's panel as the depth.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static void Multiply6By64(
        float* x,
        nint xStep,
        float* w,
        int depth,
        float* from,
        nint fromStep,
        float* y,
        nint yStep
    )
    {
        var sum00 = V.Zero;
        var sum01 = V.Zero;
        var sum02 = V.Zero;
        var sum03 = V.Zero;
        var sum10 = V.Zero;
        var sum11 = V.Zero;
        var sum12 = V.Zero;
        var sum13 = V.Zero;
        var sum20 = V.Zero;
        var sum21 = V.Zero;
        var sum22 = V.Zero;
        var sum23 = V.Zero;
        var sum30 = V.Zero;
        var sum31 = V.Zero;
        var sum32 = V.Zero;
        var sum33 = V.Zero;
        var sum40 = V.Zero;
        var sum41 = V.Zero;
        var sum42 = V.Zero;
        var sum43 = V.Zero;
        var sum50 = V.Zero;
        var sum51 = V.Zero;
        var sum52 = V.Zero;
        var sum53 = V.Zero;
        float* x1 = x + xStep;
        float* x2 = x1 + xStep;
        float* x3 = x2 + xStep;
        float* x4 = x3 + xStep;
        float* x5 = x4 + xStep;
        for (int d = 0; d < depth; d++, w += Columns)
        {
            var w0 = Vector512.Load(w);
            var w1 = Vector512.Load(w + 16);
            var w2 = Vector512.Load(w + 32);
            var w3 = Vector512.Load(w + 48);
            var value = Vector512.Create(x[d]);
            sum00 = Vector512.FusedMultiplyAdd(value, w0, sum00);
            sum01 = Vector512.FusedMultiplyAdd(value, w1, sum01);
            sum02 = Vector512.FusedMultiplyAdd(value, w2, sum02);
            sum03 = Vector512.FusedMultiplyAdd(value, w3, sum03);
            value = Vector512.Create(x1[d]);
            sum10 = Vector512.FusedMultiplyAdd(value, w0, sum10);
            sum11 = Vector512.FusedMultiplyAdd(value, w1, sum11);
            sum12 = Vector512.FusedMultiplyAdd(value, w2, sum12);
            sum13 = Vector512.FusedMultiplyAdd(value, w3, sum13);
            value = Vector512.Create(x2[d]);
            sum20 = Vector512.FusedMultiplyAdd(value, w0, sum20);
            sum21 = Vector512.FusedMultiplyAdd(value, w1, sum21);
            sum22 = Vector512.FusedMultiplyAdd(value, w2, sum22);
            sum23 = Vector512.FusedMultiplyAdd(value, w3, sum23);
            value = Vector512.Create(x3[d]);
            sum30 = Vector512.FusedMultiplyAdd(value, w0, sum30);
            sum31 = Vector512.FusedMultiplyAdd(value, w1, sum31);
            sum32 = Vector512.FusedMultiplyAdd(value, w2, sum32);
            sum33 = Vector512.FusedMultiplyAdd(value, w3, sum33);
            value = Vector512.Create(x4[d]);
            sum40 = Vector512.FusedMultiplyAdd(value, w0, sum40);
            sum41 = Vector512.FusedMultiplyAdd(value, w1, sum41);
            sum42 = Vector512.FusedMultiplyAdd(value, w2, sum42);
            sum43 = Vector512.FusedMultiplyAdd(value, w3, sum43);
            value = Vector512.Create(x5[d]);
            sum50 = Vector512.FusedMultiplyAdd(value, w0, sum50);
            sum51 = Vector512.FusedMultiplyAdd(value, w1, sum51);
            sum52 = Vector512.FusedMultiplyAdd(value, w2, sum52);
            sum53 = Vector512.FusedMultiplyAdd(value, w3, sum53);
        }
        (Vector512.Load(from) + sum00).Store(y);
        (Vector512.Load(from + 16) + sum01).Store(y + 16);
        (Vector512.Load(from + 32) + sum02).Store(y + 32);
        (Vector512.Load(from + 48) + sum03).Store(y + 48);
        from += fromStep;
        y += yStep;
        (Vector512.Load(from) + sum10).Store(y);
        (Vector512.Load(from + 16) + sum11).Store(y + 16);
        (Vector512.Load(from + 32) + sum12).Store(y + 32);
        (Vector512.Load(from + 48) + sum13).Store(y + 48);
        from += fromStep;
        y += yStep;
        (Vector512.Load(from) + sum20).Store(y);
        (Vector512.Load(from + 16) + sum21).Store(y + 16);
        (Vector512.Load(from + 32) + sum22).Store(y + 32);
        (Vector512.Load(from + 48) + sum23).Store(y + 48);
        from += fromStep;
        y += yStep;
        (Vector512.Load(from) + sum30).Store(y);
        (Vector512.Load(from + 16) + sum31).Store(y + 16);
        (Vector512.Load(from + 32) + sum32).Store(y + 32);
        (Vector512.Load(from + 48) + sum33).Store(y + 48);
        from += fromStep;
        y += yStep;
        (Vector512.Load(from) + sum40).Store(y);
        (Vector512.Load(from + 16) + sum41).Store(y + 16);
        (Vector512.Load(from + 32) + sum42).Store(y + 32);
        (Vector512.Load(from + 48) + sum43).Store(y + 48);
        from += fromStep;
        y += yStep;
        (Vector512.Load(from) + sum50).Store(y);
        (Vector512.Load(from + 16) + sum51).Store(y + 16);
        (Vector512.Load(from + 32) + sum52).Store(y + 32);
        (Vector512.Load(from + 48) + sum53).Store(y + 48);
    }
}
