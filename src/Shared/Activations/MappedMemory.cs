using System.Buffers;
using System.IO.MemoryMappedFiles;

namespace Pipeline.Shared.Activations;

/// <summary>A file of less than 2 GiB as memory, mapped and never copied.</summary>
internal sealed unsafe class MappedMemory : MemoryManager<byte>
{
    private readonly MemoryMappedFile map;
    private readonly MemoryMappedViewAccessor view;
    private readonly int length;
    private byte* start;

    public MappedMemory(FileStream file)
    {
        length = checked((int)file.Length);
        map = MemoryMappedFile.CreateFromFile(
            file,
            null,
            0,
            MemoryMappedFileAccess.Read,
            HandleInheritability.None,
            leaveOpen: true
        );
        view = map.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
        view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
        start += view.PointerOffset;
    }

    /// <summary>The first byte's address, null once disposed.</summary>
    public byte* Start => start;

    public override Span<byte> GetSpan() => new(start, start is null ? 0 : length);

    public override MemoryHandle Pin(int elementIndex = 0) => new(start + elementIndex);

    public override void Unpin() { }

    protected override void Dispose(bool disposing)
    {
        if (disposing && start is not null)
        {
            start = null;
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            map.Dispose();
        }
    }
}
