using BenchmarkDotNet.Attributes;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Benchmarks;

/// <summary>x Wᵀ of 4,096 rows, packing included, on libtorch's number of threads: by <see cref="PackedWeights"/> and by libtorch.</summary>
public unsafe class ProductBenchmarks : IDisposable
{
    private const int Rows = 4096;
    private const int RowsAtATime = 16;

    private Tensor xNI = empty(0);
    private Tensor weightOI = empty(0);
    private Tensor yNO = empty(0);
    private AlignedMemory<float>? pack;

    /// <summary>Inputs and outputs.</summary>
    [Params("256 x 1024", "768 x 768", "768 x 3072", "3072 x 768")]
    public string Shape { get; set; } = "";

    [GlobalSetup]
    public void Setup()
    {
        using var generator = new Generator(1, CPU);
        int[] sizes = [.. Shape.Split(" x ").Select(int.Parse)];
        xNI = randn(Rows, sizes[0], generator: generator).DetachFromDisposeScope();
        weightOI = randn(sizes[1], sizes[0], generator: generator).DetachFromDisposeScope();
        yNO = empty(Rows, sizes[1]).DetachFromDisposeScope();
        pack = new AlignedMemory<float>(PackedWeights.Length(sizes[0], sizes[1]));
    }

    [Benchmark(Baseline = true)]
    public void Libtorch()
    {
        using var none = no_grad();
        using var y = nn.functional.linear(xNI, weightOI);
    }

    [Benchmark]
    public void Packed()
    {
        using var scope = NewDisposeScope();
        var (inputs, outputs) = ((int)xNI.shape[1], (int)yNO.shape[1]);
        float* x = CpuKernels.Floats(xNI);
        float* y = CpuKernels.Floats(yNO);
        int threads = get_num_threads();
        float* weight = CpuKernels.Floats(weightOI);
        var weights = PackedWeights.Pack(weight, inputs, null, inputs, outputs, pack!.Pointer, threads);
        Pieces.Run(
            (Rows + PackedWeights.Rows - 1) / PackedWeights.Rows,
            RowsAtATime,
            threads,
            () => 0,
            (piece, count, _) =>
            {
                long first = (long)piece * PackedWeights.Rows;
                int rows = (int)Math.Min(Rows - first, count * PackedWeights.Rows);
                weights.Multiply(x + (first * inputs), inputs, y + (first * outputs), outputs, rows);
            },
            _ => { }
        );
    }

    [GlobalCleanup]
    public void Dispose()
    {
        xNI.Dispose();
        weightOI.Dispose();
        yNO.Dispose();
        pack?.Dispose();
        GC.SuppressFinalize(this);
    }
}
