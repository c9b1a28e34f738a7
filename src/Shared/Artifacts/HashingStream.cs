using System.Security.Cryptography;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// A forward-only stream over a file that hashes what passes and tells a full disk in words a user can act on. The file
/// belongs to the caller.
/// </summary>
internal sealed class HashingStream(FileStream file, string finalPath) : Stream
{
    private readonly IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);

    /// <summary>What is written goes to the disk when there is so much of it, while more is written: at the end little is left to wait for.</summary>
    private const long FlushBytes = 8 << 20;

    /// <summary>What is hashed and handed to the system at a time, so that one finds in the core's cache what the other read.</summary>
    private const int PieceBytes = 1 << 18;

    private long written;
    private long sent;
    private Task sending = Task.CompletedTask;

    public override bool CanRead => false;
    public override bool CanSeek => false;
    public override bool CanWrite => true;
    public override long Length => written;

    public override long Position
    {
        get => written;
        set => throw new NotSupportedException("An artifact is written front to back.");
    }

    public override void Write(ReadOnlySpan<byte> buffer)
    {
        while (!buffer.IsEmpty)
        {
            int length = Math.Min(PieceBytes, buffer.Length);
            WritePiece(buffer[..length]);
            buffer = buffer[length..];
        }
    }

    private void WritePiece(ReadOnlySpan<byte> buffer)
    {
        hash.AppendData(buffer);
        try
        {
            file.Write(buffer);
        }
        catch (IOException e) when (DiskFull.Is(e))
        {
            throw DiskFull.While(finalPath, written + buffer.Length, e);
        }
        written += buffer.Length;
        if (written - sent >= FlushBytes)
        {
            Send(sending.GetAwaiter().GetResult);
            var handle = file.SafeFileHandle;
            sending = Task.Run(() => RandomAccess.FlushToDisk(handle));
            sent = written;
        }
    }

    private void Send(Action toDisk)
    {
        try
        {
            toDisk();
        }
        catch (IOException e) when (DiskFull.Is(e))
        {
            throw DiskFull.While(finalPath, written, e);
        }
    }

    public override void Write(byte[] buffer, int offset, int count) => Write(buffer.AsSpan(offset, count));

    public override void Flush() { }

    /// <summary>Flushes the file to disk; the digest of everything written.</summary>
    public FileDigest Finish()
    {
        Send(sending.GetAwaiter().GetResult);
        Send(() => file.Flush(flushToDisk: true));
        return new FileDigest(written, Convert.ToHexStringLower(hash.GetHashAndReset()));
    }

    public override int Read(byte[] buffer, int offset, int count) => throw new NotSupportedException();

    public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

    public override void SetLength(long value) => throw new NotSupportedException();

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            sending.ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
            hash.Dispose();
        }
        base.Dispose(disposing);
    }
}
