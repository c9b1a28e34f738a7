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
        ElementwiseKernels.GeluTanh(Floats(x), x.numel(), get_num_threads());
        return x;
    }

    /// <summary>[.., 2 M] to [.., M].</summary>
    public static Tensor SiluGate(Tensor gateUp)
    {
        long[] shape = gateUp.shape;
        shape[^1] /= 2;
        var gated = empty(shape);
        ElementwiseKernels.SiluGate(
            Floats(gateUp),
            Floats(gated),
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
            Floats(source),
            Floats(weight),
            Floats(normed),
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
            Floats(qkvBTW),
            cosTR is null ? null : Floats(cosTR),
            sinTR is null ? null : Floats(sinTR),
            Floats(mixed),
            shape,
            get_num_threads()
        );
        return mixed;
    }

    /// <summary>Where a contiguous float32 tensor has its first value.</summary>
    private static float* Floats(Tensor tensor)
    {
        if (tensor.dtype != ScalarType.Float32 || !tensor.is_contiguous())
        {
            throw new ArgumentException($"{tensor.dtype}, {tensor}: expected contiguous float32.", nameof(tensor));
        }
        return (float*)tensor.storage<float>().data_ptr() + tensor.storage_offset();
    }
}
