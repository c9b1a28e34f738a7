namespace Pipeline.Shared.Text;

/// <summary>A stream that refuses to be read endlessly for one item: a damaged file could otherwise be one item of any size.</summary>
internal sealed class BoundedStretches(Stream inner, string path, long maximumBytes) : ForwardStream
{
    private long stretch;

    /// <summary>An item is complete; the next may be as long again.</summary>
    public void BeginStretch() => stretch = 0;

    public override int Read(Span<byte> buffer)
    {
        int read = inner.Read(buffer);
        stretch += read;
        return stretch <= maximumBytes
            ? read
            : throw new ConfigurationException(
                new Fault(
                    path,
                    $"an item of more than {maximumBytes >> 20} MB",
                    "documents",
                    "Divide it, or check the file"
                ).ToString()
            );
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            inner.Dispose();
        }
        base.Dispose(disposing);
    }
}
