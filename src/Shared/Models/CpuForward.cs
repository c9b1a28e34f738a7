using System.Collections.Concurrent;
using System.Runtime.Intrinsics;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// Blocks in kernels, on float32 tensors on the CPU, without gradients. Rows of the stream go through a norm, its product
/// and what follows it a few at a time, so that what lies between stays in a core's cache and has no tensor of its own:
/// <code>
/// Attention  norm ─ W ─ + b ─┬─ rotate ─ scores ─ softmax ─ mix ─┬─ W ─ + b ─ norm ─ + resid
///                            └─ a head at a time, some contexts ─┘
/// Mlp        norm ─ W ─ + b ─ activation ─ W ─ + b ─ norm ─ + resid
/// Project    norm ─ W ─ + b                                                          logits
/// </code>
/// A row's result depends on that row and those it attends to alone, and no number of threads changes it. Nothing it takes
/// grows with the batch but what it gives.
/// </summary>
internal sealed unsafe class CpuForward(TransformerConfig config, RotaryTables? rotary, TensorForward tensors)
    : IBlockOperations,
        IDisposable
{
    /// <summary>Values of weights that are packed at a time: 16 MB.</summary>
    public const long MostPacked = 1 << 22;

    /// <summary>Rows that go through together at most.</summary>
    private const int MostRows = 16 * PackedWeights.Rows;

    /// <summary>Rows whose queries, keys and values exist together, but for a context that has more.</summary>
    private const int AttentionRows = 4096;

    // Memory fresh from the system would cost more than packing weights once a call, and blocks of many sizes, freed and
    // taken again, leave the allocator with memory that it cannot give back.
    private readonly ConcurrentBag<AlignedMemory<float>> packs = [];
    private readonly ConcurrentBag<AlignedMemory<float>> attentions = [];
    private readonly ConcurrentBag<AlignedMemory<float>> rowMemories = [];
    private readonly ConcurrentBag<Tensor> lent = [];

    /// <summary>Whether the kernels may stand in for tensor operations now.</summary>
    public static bool Runs(Device device) =>
        Vector512.IsHardwareAccelerated && device.type == DeviceType.CPU && !is_grad_enabled();

    public Tensor Project(Norm? norm, Linear linear, Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = empty([.. x.shape[..^1], linear.Weight.shape[0]]);
        Project(norm, linear, x, y);
        return y.MoveToOuterDisposeScope();
    }

    /// <summary>The same in memory that is used again once it is given back.</summary>
    public LentTensor Lend(Norm? norm, Linear linear, Tensor x)
    {
        using var scope = NewDisposeScope();
        long[] shape = [.. x.shape[..^1], linear.Weight.shape[0]];
        long length = shape.Aggregate(1L, (product, axis) => product * axis);
        if (!lent.TryTake(out var memory) || memory.numel() < length)
        {
            memory?.Dispose();
            memory = empty(length).DetachFromDisposeScope();
        }
        var y = memory.narrow(0, 0, length).view(shape);
        Project(norm, linear, x, y);
        return new LentTensor(y.MoveToOuterDisposeScope(), () => lent.Add(memory));
    }

    public Tensor Attention(int layer, BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        var (batch, positions, width) = (xBTD.shape[0], xBTD.shape[1], (int)xBTD.shape[2]);
        int mixedWidth = config.Heads * config.HeadWidth;
        using var into = new PackedParts(weights.Qkv, width, packs);
        using var back = new PackedParts(weights.AttentionOut, mixedWidth, packs);
        using var memory = new Lease(attentions);
        RequireShape(weights.Qkv, (config.Heads + (2L * config.KeyValueHeads)) * config.HeadWidth, width);
        RequireShape(weights.AttentionOut, width, mixedWidth);
        long contexts = Math.Clamp(AttentionRows / positions, 1, batch);
        float* qkv = memory.Of(contexts * positions * (into.Outputs + mixedWidth));
        float* mixed = qkv + (contexts * positions * into.Outputs);
        bool inPlace = mayOverwrite && back.Count == 1 && residBTD?.is_contiguous() == true;
        var outBTD = inPlace ? residBTD!.alias() : empty(xBTD.shape);
        var normalization = Normalize(weights.AttentionNorm, width);
        var ending = EndWith(weights.AttentionOutNorm, residBTD, outBTD, inPlace);
        float* source = CpuKernels.Floats(xBTD.contiguous());
        float* target = CpuKernels.Floats(outBTD);
        for (long first = 0; first < batch; first += contexts)
        {
            long count = Math.Min(contexts, batch - first);
            long before = first * positions * width;
            Project(normalization, into, source + before, qkv, count * positions, default);
            Attend(layer, weights, qkv, mixed, count, positions);
            Project(default, back, mixed, target + before, count * positions, ending.From(first * positions));
        }
        return outBTD.MoveToOuterDisposeScope();
    }

    public Tensor Mlp(BlockWeights weights, Tensor xBTD, Tensor? residBTD, bool mayOverwrite)
    {
        using var scope = NewDisposeScope();
        using var packIn = new Lease(packs);
        using var packOut = new Lease(packs);
        int width = (int)xBTD.shape[^1];
        int matrices = config.GatedMlp ? 2 : 1;
        int hidden = Outputs(weights.MlpIn, width) / matrices;
        RequireShape(weights.MlpOut, width, hidden);
        // By parts of what it has inside, each of which adds to what it gives.
        long most = Math.Max(1, MostPacked / ((long)matrices * width * PackedWeights.Depth)) * PackedWeights.Depth;
        bool inPlace = mayOverwrite && hidden <= most && residBTD?.is_contiguous() == true;
        var outBTD = inPlace ? residBTD!.alias() : empty(xBTD.shape);
        var normalization = Normalize(weights.MlpNorm, width);
        var ending = EndWith(weights.MlpOutNorm, residBTD, outBTD, inPlace);
        float* source = CpuKernels.Floats(xBTD.contiguous());
        float* target = CpuKernels.Floats(outBTD);
        for (int first = 0; first < hidden; first += (int)most)
        {
            int part = (int)Math.Min(most, hidden - first);
            int inner = matrices * part;
            long length = PackedWeights.Length(width, part);
            float* packed = packIn.Of(matrices * length);
            var gate = Pack(weights.MlpIn, first, part, packed);
            // Without a gate it has no inputs, and multiplies nothing.
            var up = config.GatedMlp ? Pack(weights.MlpIn, hidden + first, part, packed + length) : default;
            var back = PackInputs(weights.MlpOut, first, part, packOut.Of(PackedWeights.Length(part, width)));
            var (adds, ends) = (first > 0, first + part == hidden);
            InRows(
                xBTD.numel() / width,
                width + inner + ending.MemoryPerRow,
                (start, count, memory) =>
                {
                    float* normed = normalization.Apply(source + (start * width), memory, count);
                    float* innerRows = memory + (count * width);
                    gate.Multiply(normed, width, innerRows, inner, count);
                    up.Multiply(normed, width, innerRows + part, inner, count);
                    for (int row = 0; row < count; row++)
                    {
                        float* active = innerRows + (row * inner);
                        RowKernels.Activate(config.Activation, active, config.GatedMlp ? active + part : null, part);
                    }
                    float* rows = inPlace ? innerRows + (count * inner) : target + (start * width);
                    back.Multiply(innerRows, inner, rows, width, count, adds);
                    if (ends)
                    {
                        ending.Apply(rows, start, count);
                    }
                }
            );
        }
        return outBTD.MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (var memory in packs.Concat(attentions).Concat(rowMemories))
        {
            memory.Dispose();
        }
        packs.Clear();
        attentions.Clear();
        rowMemories.Clear();
        while (lent.TryTake(out var memory))
        {
            memory.Dispose();
        }
    }

    /// <summary>A projection's outputs; kernels would read beyond what does not fit.</summary>
    private static int Outputs(Linear linear, long inputs)
    {
        long outputs = linear.Weight.shape[0];
        RequireShape(linear, outputs, inputs);
        return checked((int)outputs);
    }

    private static void RequireShape(Linear linear, long outputs, long inputs)
    {
        RequireShape(linear.Weight, outputs, inputs);
        if (linear.Bias is not null)
        {
            RequireShape(linear.Bias, outputs);
        }
    }

    private static void RequireShape(Tensor tensor, params long[] expected)
    {
        if (!tensor.shape.AsSpan().SequenceEqual(expected))
        {
            throw new ArgumentException(
                $"shape [{string.Join(", ", tensor.shape)}], expected [{string.Join(", ", expected)}]."
            );
        }
    }

    /// <summary>Some of a projection's outputs.</summary>
    private static PackedWeights Pack(Linear linear, long first, long outputs, float* memory)
    {
        int inputs = (int)linear.Weight.shape[1];
        return PackedWeights.Pack(
            CpuKernels.Floats(linear.Weight) + (first * inputs),
            inputs,
            linear.Bias is null ? null : CpuKernels.Floats(linear.Bias) + first,
            inputs,
            (int)outputs,
            memory,
            get_num_threads()
        );
    }

    /// <summary>Some of a projection's inputs.</summary>
    private static PackedWeights PackInputs(Linear linear, long first, int inputs, float* memory) =>
        PackedWeights.Pack(
            CpuKernels.Floats(linear.Weight) + first,
            (nint)linear.Weight.shape[1],
            linear.Bias is null ? null : CpuKernels.Floats(linear.Bias),
            inputs,
            (int)linear.Weight.shape[0],
            memory,
            get_num_threads()
        );

    private void Project(Norm? norm, Linear linear, Tensor x, Tensor y)
    {
        int inputs = (int)x.shape[^1];
        using var parts = new PackedParts(linear, inputs, packs);
        Project(
            Normalize(norm, inputs),
            parts,
            CpuKernels.Floats(x.contiguous()),
            CpuKernels.Floats(y),
            x.numel() / inputs,
            default
        );
    }

    /// <summary>Rows [N, I] to [N, O], part by part of the weights; what follows comes with the last.</summary>
    private void Project(
        Normalization normalization,
        PackedParts parts,
        float* source,
        float* target,
        long rows,
        Ending ending
    )
    {
        var (inputs, outputs) = (parts.Inputs, parts.Outputs);
        for (int part = 0; part < parts.Count; part++)
        {
            var weights = parts.Pack(part);
            long column = parts.First(part);
            bool ends = part == parts.Count - 1;
            int normed = normalization.IsNone ? 0 : inputs;
            InRows(
                rows,
                normed + ending.MemoryPerRow,
                (start, count, memory) =>
                {
                    float* x = normalization.Apply(source + (start * inputs), memory, count);
                    float* y = ending.InPlace ? memory + (count * normed) : target + (start * outputs);
                    weights.Multiply(x, inputs, y + column, outputs, count);
                    if (ends)
                    {
                        ending.Apply(y, start, count);
                    }
                }
            );
        }
    }

    /// <summary>Attention between its projections: queries, keys and values [B,T,W] to mixed values [B,T,H x head width].</summary>
    private void Attend(int layer, BlockWeights weights, float* qkv, float* mixed, long batch, long positions)
    {
        // The kernel knows neither norms of queries and keys nor caps.
        if (config.QueryKeyNorm != QueryKeyNorm.None || config.ScoreCap is not null)
        {
            AttendAsTensors(layer, weights, qkv, mixed, batch, positions);
            return;
        }
        using var scope = NewDisposeScope();
        var tables = rotary?.For(positions);
        CausalAttention.Run(
            qkv,
            tables is null ? null : CpuKernels.Floats(tables.Value.Cos),
            tables is null ? null : CpuKernels.Floats(tables.Value.Sin),
            mixed,
            new AttentionShape(
                (int)batch,
                (int)positions,
                config.Heads,
                config.KeyValueHeads,
                config.HeadWidth,
                config.Rotary is null ? 0 : config.Rotary.Width ?? config.HeadWidth,
                (float)config.ScoreFactor(layer),
                config.WindowOf(layer)
            ),
            get_num_threads()
        );
    }

    private void AttendAsTensors(int layer, BlockWeights weights, float* qkv, float* mixed, long batch, long positions)
    {
        using var scope = NewDisposeScope();
        int width = config.Heads * config.HeadWidth;
        var qkvBTW = empty(batch, positions, width + (2L * config.KeyValueHeads * config.HeadWidth));
        Copy(qkv, CpuKernels.Floats(qkvBTW), qkvBTW.numel());
        var mixedBTA = tensors.Attend(layer, weights, qkvBTW).contiguous();
        Copy(CpuKernels.Floats(mixedBTA), mixed, mixedBTA.numel());

        static void Copy(float* from, float* to, long length) =>
            Buffer.MemoryCopy(from, to, length * sizeof(float), length * sizeof(float));
    }

    /// <summary>Goes through rows a few at a time: their first, how many they are, and memory of a number of values for each.</summary>
    private void InRows(long rows, long memoryPerRow, RowsAction action)
    {
        int pieces = checked((int)((rows + PackedWeights.Rows - 1) / PackedWeights.Rows));
        Pieces.Run(
            pieces,
            MostRows / PackedWeights.Rows,
            get_num_threads(),
            () => new Lease(rowMemories),
            (piece, count, lease) =>
            {
                long start = (long)piece * PackedWeights.Rows;
                long end = Math.Min(rows, start + ((long)count * PackedWeights.Rows));
                action(start, (int)(end - start), lease.Of(MostRows * memoryPerRow));
            },
            lease => lease.Dispose()
        );
    }

    private delegate void RowsAction(long start, int count, float* memory);

    private Normalization Normalize(Norm? norm, int width)
    {
        if (norm is null)
        {
            return default;
        }
        RequireShape(norm.Weight, width);
        float* bias = null;
        if (config.Norm == NormKind.LayerNorm)
        {
            var biasD = norm.Bias ?? throw new ArgumentException("a LayerNorm has no bias.");
            RequireShape(biasD, width);
            bias = CpuKernels.Floats(biasD);
        }
        return new Normalization(config.Norm, CpuKernels.Floats(norm.Weight), bias, width, (float)config.NormEpsilon);
    }

    private Ending EndWith(Norm? norm, Tensor? residBTD, Tensor outBTD, bool inPlace)
    {
        if (residBTD is not null)
        {
            RequireShape(residBTD, outBTD.shape);
        }
        int width = (int)outBTD.shape[^1];
        return new Ending(
            Normalize(norm, width),
            residBTD is null ? null : CpuKernels.Floats(residBTD.contiguous()),
            width,
            inPlace
        );
    }

    /// <summary>A norm over rows of the stream, or none.</summary>
    private readonly struct Normalization(NormKind kind, float* weight, float* bias, int width, float epsilon)
    {
        public bool IsNone => weight == null;

        /// <summary>The normed rows: in <paramref name="normed"/>, which may be x, or x itself where there is no norm.</summary>
        public float* Apply(float* x, float* normed, int rows)
        {
            if (IsNone)
            {
                return x;
            }
            for (long at = 0; at < (long)rows * width; at += width)
            {
                if (kind == NormKind.RmsNorm)
                {
                    RowKernels.RmsNorm(x + at, weight, normed + at, width, epsilon);
                }
                else
                {
                    RowKernels.LayerNorm(x + at, weight, bias, normed + at, width, epsilon);
                }
            }
            return normed;
        }
    }

    /// <summary>What follows a branch's last product: the sum takes the product's place, or the stream's.</summary>
    private readonly struct Ending(Normalization normalization, float* resid, int width, bool inPlace)
    {
        public bool InPlace => inPlace;

        /// <summary>Values of a row that the product is kept in until it is added to the stream.</summary>
        public int MemoryPerRow => inPlace ? width : 0;

        /// <summary>The same of rows counted from another.</summary>
        public Ending From(long row) =>
            new(normalization, resid == null ? null : resid + (row * width), width, inPlace);

        public void Apply(float* rows, long start, int count)
        {
            normalization.Apply(rows, rows, count);
            if (inPlace)
            {
                RowKernels.Add(rows, resid + (start * width), count * width);
            }
            else if (resid != null)
            {
                RowKernels.Add(resid + (start * width), rows, count * width);
            }
        }
    }

    /// <summary>A projection's weights, so many outputs at a time; those packed last are not packed again.</summary>
    private sealed class PackedParts(Linear linear, int inputs, ConcurrentBag<AlignedMemory<float>> packs) : IDisposable
    {
        private readonly long most = Math.Max(1, MostPacked / PackedWeights.Length(inputs, 1)) * PackedWeights.Columns;
        private PackedWeights packed;
        private int last = -1;

        public int Inputs => inputs;
        public int Outputs { get; } = CpuForward.Outputs(linear, inputs); // refused before memory is taken
        public int Count => checked((int)((Outputs + most - 1) / most));

        private readonly Lease memory = new(packs);

        public long First(int part) => part * most;

        public PackedWeights Pack(int part)
        {
            if (part != last)
            {
                long outputs = Math.Min(most, Outputs - First(part));
                float* values = memory.Of(PackedWeights.Length(inputs, outputs));
                (packed, last) = (CpuForward.Pack(linear, First(part), outputs, values), part);
            }
            return packed;
        }

        public void Dispose() => memory.Dispose();
    }

    /// <summary>Memory taken from those at rest, and given back.</summary>
    private readonly struct Lease(ConcurrentBag<AlignedMemory<float>> rest) : IDisposable
    {
        private readonly AlignedMemory<float> memory = rest.TryTake(out var idle) ? idle : new AlignedMemory<float>();

        /// <summary>So many values, in place of those asked for before.</summary>
        public float* Of(long values) => memory.AtLeast(values);

        public void Dispose() => rest.Add(memory);
    }
}
