using BenchmarkDotNet.Attributes;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Configuration;

namespace Pipeline.Benchmarks;

/// <summary>1,024 rows of 768 values to and from each stored type, beside a plain copy (float32).</summary>
public class CodecBenchmarks
{
    private const int Rows = 1024;
    private const int Width = 768;

    private readonly float[] values = new float[Rows * Width];
    private readonly byte[] bytes = new byte[Rows * Width * sizeof(float)];
    private readonly float[] scales = new float[Rows];
    private ActivationCodec codec = ActivationCodec.For(ActivationDtype.Float32);

    [ParamsAllValues]
    public ActivationDtype Dtype { get; set; }

    [GlobalSetup]
    public void Setup()
    {
        var random = new Xoshiro256(1);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)random.NextGaussian();
        }
        codec = ActivationCodec.For(Dtype);
        Encode();
    }

    [Benchmark]
    public void Encode() => codec.Encode(values, Stored(), Scales());

    [Benchmark]
    public void Decode() => codec.Decode(Stored(), Scales(), values);

    private Span<byte> Stored() => bytes.AsSpan(0, values.Length * codec.ItemBytes);

    private Span<float> Scales() => codec.HasScale ? scales : [];
}
