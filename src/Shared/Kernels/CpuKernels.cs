using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Kernels;

/// <summary>What hand-written kernels take from libtorch: its memory.</summary>
public static class CpuKernels
{
    /// <summary>Whether kernels without a gradient may stand in for operations on <paramref name="tensor"/>.</summary>
    public static bool MayCompute(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        return tensor.device_type == DeviceType.CPU && tensor.dtype == float32 && !is_grad_enabled();
    }

    /// <summary>Where a float32 tensor on the CPU has its first value; its memory lives as long as it does.</summary>
    /// <remarks>
    /// TorchSharp makes an alias of the tensor for this, which holds its memory too: call it inside a dispose scope, or the
    /// memory waits for the garbage collector after the tensor is disposed.
    /// </remarks>
    /// <exception cref="ArgumentException">Another type's storage would be read as floats, a view's in another order.</exception>
    public static unsafe float* Floats(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (tensor.dtype != float32 || tensor.device_type != DeviceType.CPU || !tensor.is_contiguous())
        {
            throw new ArgumentException(
                $"{tensor.dtype} on {tensor.device}, contiguous: {tensor.is_contiguous()}; expected contiguous float32 on the CPU.",
                nameof(tensor)
            );
        }
        return (float*)tensor.storage<float>().data_ptr() + tensor.storage_offset();
    }

    /// <summary>The values of a contiguous float32 tensor on the CPU, row-major, in its own memory.</summary>
    public static unsafe ReadOnlySpan<float> Values(Tensor tensor) => new(Floats(tensor), checked((int)tensor.numel()));

    /// <summary>A contiguous tensor's values, copied at once: TorchSharp's own copy goes value by value.</summary>
    public static unsafe T[] ToArray<T>(Tensor tensor)
        where T : unmanaged
    {
        ArgumentNullException.ThrowIfNull(tensor);
        using var plain = tensor.contiguous().cpu();
        var values = (T*)plain.storage<T>().data_ptr() + plain.storage_offset();
        return new ReadOnlySpan<T>(values, checked((int)plain.numel())).ToArray();
    }
}
