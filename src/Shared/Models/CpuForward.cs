using System.Runtime.Intrinsics;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// The kernels of a forward pass without gradients on the CPU, on contiguous float32 tensors. Where they cannot run (a
/// gradient is wanted, another device, no 512-bit vectors) <see cref="Transformer"/> runs its tensor operations, which are
/// their plain twin.
/// </summary>
internal static unsafe class CpuForward
{
    /// <summary>Whether the kernels may stand in for tensor operations now.</summary>
    public static bool Runs(Device device) =>
        Vector512.IsHardwareAccelerated && device.type == DeviceType.CPU && !is_grad_enabled();

    /// <summary>GELU's tanh form, in place of <paramref name="x"/>, which is given back.</summary>
    public static Tensor GeluTanhInPlace(Tensor x)
    {
        ElementwiseKernels.GeluTanh(CpuKernels.Floats(x), x.numel(), get_num_threads());
        return x;
    }

    /// <summary>[.., 2 M] to [.., M].</summary>
    public static Tensor SiluGate(Tensor gateUp)
    {
        long[] shape = gateUp.shape;
        shape[^1] /= 2;
        var gated = empty(shape);
        ElementwiseKernels.SiluGate(
            CpuKernels.Floats(gateUp),
            CpuKernels.Floats(gated),
            gated.numel() / shape[^1],
            (int)shape[^1],
            get_num_threads()
        );
        return gated;
    }

    /// <summary>x / sqrt(mean square + epsilon) x weight over the last axis.</summary>
    public static Tensor RmsNorm(Tensor x, Tensor weight, double epsilon)
    {
        using var source = x.contiguous();
        var normed = empty(x.shape);
        int width = (int)weight.numel();
        ElementwiseKernels.RmsNorm(
            CpuKernels.Floats(source),
            CpuKernels.Floats(weight),
            CpuKernels.Floats(normed),
            x.numel() / width,
            width,
            epsilon,
            get_num_threads()
        );
        return normed;
    }

    /// <summary>The mixed values [B, T, H x head width] of the joined projection [B, T, ..].</summary>
    public static Tensor Attention(Tensor qkvBTW, Tensor? cosTR, Tensor? sinTR, AttentionShape shape)
    {
        var mixed = empty(shape.Batch, shape.Positions, (long)shape.Heads * shape.HeadWidth);
        CausalAttention.Run(
            CpuKernels.Floats(qkvBTW),
            cosTR is null ? null : CpuKernels.Floats(cosTR),
            sinTR is null ? null : CpuKernels.Floats(sinTR),
            CpuKernels.Floats(mixed),
            shape,
            get_num_threads()
        );
        return mixed;
    }
}
