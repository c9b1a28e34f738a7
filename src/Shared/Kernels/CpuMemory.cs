using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Kernels;

/// <summary>A tensor's own memory, without a copy. It lives as long as the tensor.</summary>
public static unsafe class CpuMemory
{
    /// <summary>Where a contiguous float32 tensor on the CPU has its first value.</summary>
    public static float* Floats(Tensor tensor)
    {
        ArgumentNullException.ThrowIfNull(tensor);
        if (tensor.dtype != ScalarType.Float32 || tensor.device_type != DeviceType.CPU || !tensor.is_contiguous())
        {
            throw new ArgumentException(
                $"{tensor.dtype} on {tensor.device}, contiguous: {tensor.is_contiguous()}; expected contiguous float32 on the CPU.",
                nameof(tensor)
            );
        }
        return (float*)tensor.storage<float>().data_ptr() + tensor.storage_offset();
    }

    /// <summary>The values of a contiguous float32 tensor on the CPU, row-major.</summary>
    public static ReadOnlySpan<float> Values(Tensor tensor) => new(Floats(tensor), checked((int)tensor.numel()));
}
