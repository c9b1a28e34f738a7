using System.Runtime.Intrinsics;

namespace Pipeline.Shared.Kernels;

/// <summary>Which form of a kernel runs. All forms agree to rounding; on one machine the same one always runs.</summary>
public enum SimdWidth
{
    /// <summary>One value at a time: the plain twin.</summary>
    Scalar,

    /// <summary>8 floats at a time.</summary>
    Vector256,

    /// <summary>16 floats at a time.</summary>
    Vector512,
}

/// <summary>The best form this machine has.</summary>
public static class Simd
{
    public static SimdWidth Best { get; } =
        System.Runtime.Intrinsics.Vector512.IsHardwareAccelerated ? SimdWidth.Vector512
        : System.Runtime.Intrinsics.Vector256.IsHardwareAccelerated ? SimdWidth.Vector256
        : SimdWidth.Scalar;
}
