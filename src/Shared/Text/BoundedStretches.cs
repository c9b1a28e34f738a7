namespace Pipeline.Shared.Text;

/// <summary>A stream that refuses to be read endlessly for one item: a damaged file could otherwise be one item of any size.</summary>
internal sealed class BoundedStretches(Stream inner, string path) : Stream
{
    private long stretch;

    public override bool CanRead => true;
    public override bool CanSeek => false;
    public override bool CanWrite => false;
    public override long Length => inner.Length;

    public override long Position
    {
        get => inner.Position;
        set => throw new NotSupportedException();
    }

    /// <summary>An item is complete; the next may be as long again.</summary>
    public void BeginStretch() => stretch = 0;

    public override int Read(Span<byte> buffer) => Counted(inner.Read(buffer));

    public override int Read(byte[] buffer, int offset, int count) => Counted(inner.Read(buffer, offset, count));

    public override async ValueTask<int> ReadAsync(
        Memory<byte> buffer,
        CancellationToken cancellationToken = default
    ) => Counted(await inner.ReadAsync(buffer, cancellationToken).ConfigureAwait(false));

    public override void Flush() { }

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }
        base.Dispose(disposing);
    }

    private int Counted(int read)
    {
        stretch += read;
        return stretch <= BoundedLines.MaximumCharacters
            ? read
            : throw new ConfigurationException(
                new Fault(
                    path,
                    $"an item of more than {BoundedLines.MaximumCharacters >> 20} MB",
                    "documents",
                    "Divide it, or check the file"
                ).ToString()
            );
    }
}
