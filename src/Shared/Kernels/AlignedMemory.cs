using System.Runtime.InteropServices;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Memory outside the garbage collector's, zeroed, at an address that vectors do not straddle cache lines from; where it is
/// large, in large pages if the system has them to give, since kernels that skip about in it would wait for page tables.
/// </summary>
public sealed unsafe class AlignedMemory<T> : IDisposable
    where T : unmanaged
{
    private const nuint CacheLine = 64;

    private long length;

    /// <param name="length">Values.</param>
    public AlignedMemory(long length = 0) => Allocate(length);

    ~AlignedMemory() => Free();

    /// <summary>Where it begins.</summary>
    public T* Pointer { get; private set; }

    /// <summary>Where it begins, once there is room for a number of values: with more than there was, what it held is lost.</summary>
    public T* AtLeast(long values)
    {
        if (values > length)
        {
            Free();
            Allocate(values);
        }
        return Pointer;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Free();
        GC.SuppressFinalize(this);
    }

    private void Allocate(long values)
    {
        nuint bytes = checked((nuint)Math.Max(1, values) * (nuint)sizeof(T));
        bool isLarge = bytes >= LargePages.Bytes;
        nuint alignment = isLarge ? LargePages.Bytes : CacheLine;
        bytes = (bytes + alignment - 1) / alignment * alignment;
        Pointer = (T*)NativeMemory.AlignedAlloc(bytes, alignment);
        if (isLarge)
        {
            LargePages.AskFor(Pointer, bytes);
        }
        NativeMemory.Clear(Pointer, bytes);
        length = values;
    }

    private void Free()
    {
        NativeMemory.AlignedFree(Pointer);
        Pointer = null;
        length = 0;
    }
}
