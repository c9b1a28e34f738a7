using System.Globalization;
using System.Runtime.Intrinsics;
using System.Text.Json.Nodes;
using Pipeline.Shared.Kernels;
using static TorchSharp.torch;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// What the last bits of results depend on beside settings and inputs. Work begun in one is not continued in another unless
/// the user allows it: the artifacts would be those of neither.
/// </summary>
/// <param name="Device">cpu, cuda:0.</param>
/// <param name="Threads">CPU threads of libtorch.</param>
/// <param name="Cpu">The vector instructions libtorch uses: AVX512, AVX2 or DEFAULT.</param>
/// <param name="Kernels">The form of the project's own kernels; .NET's DOTNET_EnableAVX512=0 and its like choose a lesser one.</param>
/// <param name="TorchSharp">Its version, and with it libtorch's.</param>
public sealed record ComputeEnvironment(string Device, int Threads, string Cpu, SimdWidth Kernels, string TorchSharp)
{
    public static ComputeEnvironment Of(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        return new(
            device.ToString(),
            get_num_threads(),
            CpuCapability(),
            Simd.Best,
            typeof(TorchSharp.torch).Assembly.GetName().Version?.ToString(3) ?? ""
        );
    }

    public JsonObject ToJson() =>
        new()
        {
            ["device"] = Device,
            ["threads"] = Threads,
            ["cpu"] = Cpu,
            ["kernels"] = Kernels.ToString(),
            ["torchsharp"] = TorchSharp,
        };

    /// <summary>The first field in which <paramref name="before"/> (as <see cref="ToJson"/> gives it) differs; null if none.</summary>
    public (string Field, string Before, string Now)? DifferenceFrom(JsonObject before)
    {
        ArgumentNullException.ThrowIfNull(before);
        foreach (var (field, now) in ToJson())
        {
            string was = before[field]?.ToString() ?? "not recorded";
            string current = Convert.ToString(now, CultureInfo.InvariantCulture)!;
            if (was != current)
            {
                return (field, was, current);
            }
        }
        return null;
    }

    /// <summary>What libtorch chooses, and the variable that overrides its choice.</summary>
    private static string CpuCapability() =>
        Environment.GetEnvironmentVariable("ATEN_CPU_CAPABILITY") is { Length: > 0 } chosen ? chosen.ToUpperInvariant()
        : Vector512.IsHardwareAccelerated ? "AVX512"
        : Vector256.IsHardwareAccelerated ? "AVX2"
        : "DEFAULT";
}
