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
/// Project       norm ─ W ─ + b                                  queries, keys and values; logits
/// Attend        rotate ─ scores ─ softmax ─ mix                 a head at a time
/// AttentionOut  W ─ + b ─ norm ─ + resid
/// Mlp           norm ─ W ─ + b ─ activation ─ W ─ + b ─ norm ─ + resid
/// </code>
/// A row's result depends on that row alone, and no number of threads changes it.
/// </summary>
internal sealed unsafe class CpuForward(TransformerConfig config, RotaryTables? rotary, TensorForward tensors)
    : IBlockOperations,
        IDisposable
{
    /// <summary>Values of weights that a projection packs at a time: 16 MB.</summary>
    public const long MostPacked = 1 << 22;

    /// <summary>Rows that go through together at most.</summary>
    private const int MostRows = 16 * PackedWeights.Rows;

    // Weights are packed once a call; memory fresh from the system would cost more than that.
    private readonly ConcurrentBag<AlignedMemory<float>> packs = [];
    private readonly ConcurrentBag<AlignedMemory<float>> rowMemories = [];

    /// <summary>Whether the kernels may stand in for tensor operations now.</summary>
    public static bool Runs(Device device) =>
        Vector512.IsHardwareAccelerated && device.type == DeviceType.CPU && !is_grad_enabled();

    public Tensor Project(Norm? norm, Linear linear, Tensor x)
    {
        using var scope = NewDisposeScope();
        using var pack = new Lease(packs);
        int inputs = (int)x.shape[^1];
        int outputs = Outputs(linear, inputs);
        var y = empty([.. x.shape[..^1], outputs]);
        var normalization = Normalize(norm, inputs);
        float* source = CpuKernels.Floats(x.contiguous());
        float* target = CpuKernels.Floats(y);
        long group = Math.Max(1, MostPacked / PackedWeights.Length(inputs, 1)) * PackedWeights.Columns;
        for (long first = 0; first < outputs; first += group)
        {
            var weights = Pack(linear, pack.Memory, first, Math.Min(group, outputs - first));
            float* columns = target + first;
            InRows(
                x.numel() / inputs,
                norm is null ? 0 : inputs,
                (start, count, memory) =>
                {
                    float* rows = normalization.Apply(source + (start * inputs), memory, count);
                    weights.Multiply(rows, inputs, columns + (start * outputs), outputs, count);
                }
            );
        }
        return y.MoveToOuterDisposeScope();
    }

    public Tensor Attend(int layer, BlockWeights weights, Tensor qkvBTW)
    {
        // The kernel knows neither norms of queries and keys nor caps.
        if (config.QueryKeyNorm != QueryKeyNorm.None || config.ScoreCap is not null)
        {
            return tensors.Attend(layer, weights, qkvBTW);
        }
        using var scope = NewDisposeScope();
        var (batch, positions) = (qkvBTW.shape[0], qkvBTW.shape[1]);
        RequireShape(qkvBTW, batch, positions, (config.Heads + (2L * config.KeyValueHeads)) * config.HeadWidth);
        var tables = rotary?.For(positions);
        var mixedBTA = empty(batch, positions, (long)config.Heads * config.HeadWidth);
        CausalAttention.Run(
            CpuKernels.Floats(qkvBTW),
            tables is null ? null : CpuKernels.Floats(tables.Value.Cos),
            tables is null ? null : CpuKernels.Floats(tables.Value.Sin),
            CpuKernels.Floats(mixedBTA),
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
        return mixedBTA.MoveToOuterDisposeScope();
    }

    public Tensor AttentionOut(BlockWeights weights, Tensor mixedBTA, Tensor? residBTD)
    {
        using var scope = NewDisposeScope();
        using var pack = new Lease(packs);
        int inputs = (int)mixedBTA.shape[^1];
        int width = Outputs(weights.AttentionOut, inputs);
        var outBTD = empty(mixedBTA.shape[0], mixedBTA.shape[1], width);
        var packed = Pack(weights.AttentionOut, pack.Memory, 0, width);
        var ending = EndWith(weights.AttentionOutNorm, residBTD, outBTD);
        float* source = CpuKernels.Floats(mixedBTA.contiguous());
        float* target = CpuKernels.Floats(outBTD);
        InRows(
            mixedBTA.numel() / inputs,
            0,
            (start, count, _) =>
            {
                float* rows = target + (start * width);
                packed.Multiply(source + (start * inputs), inputs, rows, width, count);
                ending.Apply(rows, start, count);
            }
        );
        return outBTD.MoveToOuterDisposeScope();
    }

    public Tensor Mlp(BlockWeights weights, Tensor xBTD, Tensor? residBTD)
    {
        using var scope = NewDisposeScope();
        using var packIn = new Lease(packs);
        using var packOut = new Lease(packs);
        int width = (int)xBTD.shape[^1];
        int inner = Outputs(weights.MlpIn, width);
        int hidden = config.GatedMlp ? inner / 2 : inner;
        RequireShape(weights.MlpOut, width, hidden);
        var outBTD = empty(xBTD.shape);
        var into = Pack(weights.MlpIn, packIn.Memory, 0, inner);
        var back = Pack(weights.MlpOut, packOut.Memory, 0, width);
        var normalization = Normalize(weights.MlpNorm, width);
        var ending = EndWith(weights.MlpOutNorm, residBTD, outBTD);
        float* source = CpuKernels.Floats(xBTD.contiguous());
        float* target = CpuKernels.Floats(outBTD);
        InRows(
            xBTD.numel() / width,
            width + inner,
            (start, count, memory) =>
            {
                float* normed = normalization.Apply(source + (start * width), memory, count);
                float* innerRows = memory + (count * width);
                into.Multiply(normed, width, innerRows, inner, count);
                for (int row = 0; row < count; row++)
                {
                    float* gate = innerRows + (row * inner);
                    RowKernels.Activate(config.Activation, gate, config.GatedMlp ? gate + hidden : null, hidden);
                }
                float* rows = target + (start * width);
                back.Multiply(innerRows, inner, rows, width, count);
                ending.Apply(rows, start, count);
            }
        );
        return outBTD.MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        foreach (var memory in packs.Concat(rowMemories))
        {
            memory.Dispose();
        }
        packs.Clear();
        rowMemories.Clear();
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
    private static PackedWeights Pack(Linear linear, AlignedMemory<float> memory, long first, long outputs)
    {
        int inputs = (int)linear.Weight.shape[1];
        return PackedWeights.Pack(
            CpuKernels.Floats(linear.Weight) + (first * inputs),
            linear.Bias is null ? null : CpuKernels.Floats(linear.Bias) + first,
            inputs,
            (int)outputs,
            memory.AtLeast(PackedWeights.Length(inputs, outputs)),
            get_num_threads()
        );
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
                action(start, (int)(end - start), lease.Memory.AtLeast(MostRows * memoryPerRow));
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

    private Ending EndWith(Norm? norm, Tensor? residBTD, Tensor outBTD)
    {
        if (residBTD is not null)
        {
            RequireShape(residBTD, outBTD.shape);
        }
        int width = (int)outBTD.shape[^1];
        return new Ending(
            Normalize(norm, width),
            residBTD is null ? null : CpuKernels.Floats(residBTD.contiguous()),
            width
        );
    }

    /// <summary>A norm over rows of the stream, or none.</summary>
    private readonly struct Normalization(NormKind kind, float* weight, float* bias, int width, float epsilon)
    {
        /// <summary>The normed rows: in <paramref name="normed"/>, which may be x, or x itself where there is no norm.</summary>
        public float* Apply(float* x, float* normed, int rows)
        {
            if (weight == null)
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

    /// <summary>What follows a branch's last product, in place.</summary>
    private readonly struct Ending(Normalization normalization, float* resid, int width)
    {
        public void Apply(float* rows, long start, int count)
        {
            normalization.Apply(rows, rows, count);
            if (resid != null)
            {
                RowKernels.Add(resid + (start * width), rows, count * width);
            }
        }
    }

    /// <summary>Memory taken from those at rest, and given back.</summary>
    private readonly struct Lease(ConcurrentBag<AlignedMemory<float>> rest) : IDisposable
    {
        public AlignedMemory<float> Memory { get; } = rest.TryTake(out var idle) ? idle : new AlignedMemory<float>();

        public void Dispose() => rest.Add(Memory);
    }
}
