using BenchmarkDotNet.Attributes;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Benchmarks;

/// <summary>The 32 largest scores of 64 rows of 768 values, one thread: by screening, and by float32 scores of all latents.</summary>
public unsafe class ScreenBenchmarks : IDisposable
{
    private const int Rows = 64;
    private const int Width = 768;
    private const int K = 32;

    private readonly SparseRows kept = new(Rows, Rows * K);
    private readonly int[] indices = new int[K];
    private readonly float[] values = new float[K];
    private float[] xBD = [];
    private float[] W_encFD = [];
    private float[] b_encF = [];
    private float[] scoresF = [];
    private EncoderScreen? screen;

    [Params(6144, 24_576)]
    public int Features { get; set; }

    [Params(SimdWidth.Vector512, SimdWidth.Vector256)]
    public SimdWidth Form { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        var random = new Xoshiro256(1);
        float[] Normal(int length) => [.. Enumerable.Range(0, length).Select(_ => (float)random.NextGaussian())];
        xBD = Pinned(Normal(Rows * Width));
        W_encFD = Pinned(Normal(Features * Width));
        b_encF = Pinned(new float[Features]);
        scoresF = new float[Features];
        screen = new EncoderScreen(Width, Features, Form);
        fixed (float* weights = W_encFD)
        fixed (float* biases = b_encF)
        {
            screen.Load(weights, biases, threads: 1); // pinned arrays stay where they are
        }
    }

    [Benchmark(Baseline = true)]
    public int Every_score()
    {
        int found = 0;
        for (int row = 0; row < Rows; row++)
        {
            var x = xBD.AsSpan(row * Width, Width);
            for (int f = 0; f < Features; f++)
            {
                scoresF[f] = TensorPrimitives.Dot(W_encFD.AsSpan(f * Width, Width), x);
            }
            found += TopKSelect.Positive(scoresF, b_encF, indices, values, Form);
        }
        return found;
    }

    [Benchmark]
    public long Screening()
    {
        fixed (float* x = xBD)
        {
            screen!.SelectOfEachRow(x, K, threads: 1, kept);
        }
        return screen.Rescored;
    }

    [GlobalCleanup]
    public void Dispose()
    {
        screen?.Dispose();
        GC.SuppressFinalize(this);
    }

    private static float[] Pinned(float[] values)
    {
        float[] pinned = GC.AllocateUninitializedArray<float>(values.Length, pinned: true);
        values.CopyTo(pinned, 0);
        return pinned;
    }
}
