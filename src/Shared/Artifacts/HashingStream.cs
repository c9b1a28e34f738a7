using System.Security.Cryptography;

namespace Pipeline.Shared.Artifacts;

/// <summary>Passes writes on and hashes them on the way. Does not own the stream below.</summary>
internal sealed class HashingStream(Stream below) : Stream
{
    private readonly IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
    private long written;

    public override bool CanRead => false;

    /// <summary>Arrow's writer wants to know its position, which such a stream has; it never moves it.</summary>
    public override bool CanSeek => true;

    public override bool CanWrite => true;
    public override long Length => written;

    public override long Position
    {
        get => written;
        set => throw new NotSupportedException("artifacts are written from the first byte to the last");
    }

    public FileDigest Digest() => new(written, Convert.ToHexStringLower(hash.GetCurrentHash()));

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        hash.AppendData(buffer);
        below.Write(buffer);
        written += buffer.Length;
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush() => below.Flush();

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        hash.Dispose();
        base.Dispose(disposing);
    }
}
