using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

public unsafe class AlignedMemoryTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(100)]
    [InlineData((2 << 20) - 1)]
    [InlineData(2 << 20)] // a large page
    [InlineData((5 << 20) + 3)]
    public void Memory_is_zeroed_and_aligned_however_large_and_again_once_it_has_grown(int bytes)
    {
        using var memory = new AlignedMemory<byte>(10);
        memory.Pointer[3] = 7;

        byte* start = memory.AtLeast(bytes);

        ((nint)start % 64).Should().Be(0);
        if (bytes > 10)
        {
            new ReadOnlySpan<byte>(start, bytes).IndexOfAnyExcept((byte)0).Should().Be(-1);
            start[bytes - 1] = 1;
            (memory.AtLeast(bytes) == start).Should().BeTrue();
            start[bytes - 1].Should().Be(1);
        }
    }
}
