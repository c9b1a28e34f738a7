using ICSharpCode.SharpZipLib.BZip2;

namespace Pipeline.Shared.Text;

/// <summary>
/// bzip2 streams one after another, as multistream dumps and parallel compressors write them: the library's stream ends at
/// the first's end, and takes a wrong header for an empty one.
/// </summary>
internal sealed class BZip2Members(Stream input) : ForwardStream
{
    private BZip2InputStream? member;

    public override int Read(Span<byte> buffer)
    {
        byte[] bytes = new byte[Math.Min(buffer.Length, 1 << 16)]; // the library's span overload copies through a byte at a time
        while (member is not null || Begins())
        {
            member ??= new BZip2InputStream(input) { IsStreamOwner = false };
            int read = member.Read(bytes, 0, bytes.Length);
            if (read > 0)
            {
                bytes.AsSpan(0, read).CopyTo(buffer);
                return read;
            }
            member.Dispose();
            member = null;
        }
        return 0;
    }

    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            member?.Dispose();
            input.Dispose();
        }
        base.Dispose(disposing);
    }

    /// <summary>Whether another stream follows.</summary>
    private bool Begins()
    {
        Span<byte> header = stackalloc byte[4];
        int read = input.ReadAtLeast(header, header.Length, throwOnEndOfStream: false);
        if (read == 0)
        {
            return false;
        }
        if (read < header.Length || !header.StartsWith("BZh"u8) || header[3] is < (byte)'1' or > (byte)'9')
        {
            throw new InvalidDataException("no bzip2 header");
        }
        input.Seek(-read, SeekOrigin.Current);
        return true;
    }
}
