using System.Text.Json;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>One file of golden/training: a step as a peer's own trainer computes it.</summary>
internal sealed class GoldenStep : IDisposable
{
    private readonly JsonDocument json;
    private readonly ScalarType type;

    public GoldenStep(string file, string precision)
    {
        json = JsonDocument.Parse(File.ReadAllBytes(TestData.Require("golden", "training", file + ".json")));
        type = precision == "f32" ? ScalarType.Float32 : ScalarType.Float64;
        Expected = json.RootElement.GetProperty(precision);
    }

    public JsonElement Expected { get; }

    public JsonElement Hyper => json.RootElement.GetProperty("hyper");

    public JsonElement Root => json.RootElement;

    public Tensor X => Read(json.RootElement.GetProperty("inputs").GetProperty("x"), type);

    /// <summary>bool [F].</summary>
    public Tensor DeadF(int features)
    {
        var mask = zeros([features], ScalarType.Bool);
        long[] dead = [.. json.RootElement.GetProperty("dead_latents").EnumerateArray().Select(e => e.GetInt64())];
        return dead.Length == 0 ? mask : mask.index_fill_(0, tensor(dead), true);
    }

    public double Number(string hyper) => Hyper.GetProperty(hyper).GetDouble();

    /// <summary>A parameter as a leaf of the graph.</summary>
    public Tensor Parameter(string name, bool transposed = false)
    {
        var value = Read(json.RootElement.GetProperty("inputs").GetProperty("params").GetProperty(name), type);
        return (transposed ? value.t().contiguous() : value).detach().requires_grad_(true);
    }

    public void Dispose() => json.Dispose();

    /// <summary>Largest difference, relative to the largest expected value.</summary>
    public static void Compare(string what, Tensor actual, JsonElement expected, double tolerance)
    {
        var wanted = Read(expected, ScalarType.Float64);
        actual.shape.Should().Equal(wanted.shape, what);
        double scale = Math.Max(wanted.abs().max().item<double>(), 1e-12);
        ((actual.detach().to(float64) - wanted).abs().max().item<double>() / scale)
            .Should()
            .BeLessThan(tolerance, what);
    }

    public static Tensor Read(JsonElement json, ScalarType type)
    {
        if (json.ValueKind == JsonValueKind.Number)
        {
            return tensor(json.GetDouble(), type);
        }
        return json[0].ValueKind == JsonValueKind.Array
            ? stack([.. json.EnumerateArray().Select(row => Read(row, type))])
            : tensor(json.EnumerateArray().Select(e => e.GetDouble()).ToArray()).to(type);
    }
}
