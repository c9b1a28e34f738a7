using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>What hand-written kernels take from libtorch: its memory and its number of threads.</summary>
internal static class CpuKernels
{
    /// <summary>As many threads as libtorch uses.</summary>
    public static ParallelOptions Threads => new() { MaxDegreeOfParallelism = get_num_threads() };

    /// <summary>Where a float32 tensor on the CPU has its values; another type's storage would be read as floats.</summary>
    public static unsafe float* Floats(Tensor tensor) => (float*)tensor.storage<float>().data_ptr();
}
