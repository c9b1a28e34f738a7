using BenchmarkDotNet.Attributes;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Benchmarks;

/// <summary>Exact top-k of one row of normal scores, beside one reading of it and a full sort.</summary>
public class SelectBenchmarks
{
    private float[] row = [];
    private float[] bias = [];
    private float[] sorted = [];
    private int[] indices = [];
    private float[] values = [];

    [Params(4096, 24_576)]
    public int Features { get; set; }

    [Params(32, 128)]
    public int K { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        var random = new Xoshiro256(1);
        row = [.. Enumerable.Range(0, Features).Select(_ => (float)random.NextGaussian())];
        bias = new float[Features];
        sorted = new float[Features];
        indices = new int[K];
        values = new float[K];
    }

    [Benchmark(Baseline = true)]
    public float One_reading() => TensorPrimitives.Max(row);

    [Benchmark]
    public int Select() => TopKSelect.Positive(row, bias, indices, values, Simd.Best);

    [Benchmark]
    public float Sort()
    {
        row.CopyTo(sorted, 0);
        Array.Sort(sorted);
        return sorted[^K];
    }
}
