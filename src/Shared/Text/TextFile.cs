using System.Text;
using ICSharpCode.SharpZipLib.GZip;
using ZstdSharp;

namespace Pipeline.Shared.Text;

/// <summary>Opens a text file by its name: as it is, or decompressed where it ends in .gz, .bz2 or .zst.</summary>
internal static class TextFile
{
    private const int BufferBytes = 1 << 16;

    /// <summary>UTF-8 that refuses anything else; its preamble is what tells a reader to skip a byte order mark.</summary>
    private static readonly UTF8Encoding Utf8 = new(encoderShouldEmitUTF8Identifier: true, throwOnInvalidBytes: true);

    /// <summary>The name without a compression's ending: what says the format, and what ids are made of.</summary>
    public static string PlainPath(string path) => CompressionOf(path) is null ? path : path[..path.LastIndexOf('.')];

    /// <summary>The file's text bytes, forward only. Damaged compression is a <see cref="ConfigurationException"/>.</summary>
    public static Stream Open(string path)
    {
        var file = new FileStream(
            path,
            FileMode.Open,
            FileAccess.Read,
            FileShare.Read,
            BufferBytes,
            FileOptions.SequentialScan
        );
        return CompressionOf(path) is { } compression ? new DecompressedFile(file, path, compression) : file;
    }

    /// <summary>UTF-8 text, whatever a byte order mark says, and without it.</summary>
    public static StreamReader Reader(Stream stream) =>
        new(stream, Utf8, detectEncodingFromByteOrderMarks: false, BufferBytes);

    private static Compression? CompressionOf(string path) =>
        Compression.All.FirstOrDefault(c => path.EndsWith(c.Ending, StringComparison.OrdinalIgnoreCase));

    /// <param name="Name">For messages.</param>
    /// <param name="Ending">Of the file's name.</param>
    /// <param name="Decode">Decompresses all of a stream, however many members it holds.</param>
    private sealed record Compression(string Name, string Ending, Func<FileStream, Stream> Decode)
    {
        // The framework's GZipStream takes a cut file for a whole one.
        public static readonly Compression[] All =
        [
            new("gzip", ".gz", file => new GZipInputStream(file, BufferBytes)),
            new("bzip2", ".bz2", file => new BZip2Members(new BufferedStream(file, BufferBytes))),
            new(
                "zstd",
                ".zst",
                file => new DecompressionStream(file, BufferBytes, checkEndOfStream: true, leaveOpen: false)
            ),
        ];
    }

    /// <summary>A decompressed file that words what its decoder throws, and stops what no text compresses to.</summary>
    private sealed class DecompressedFile : ForwardStream
    {
        /// <summary>Wikipedia compresses 3:1 to 6:1; 500:1 is a bomb, unless it is small.</summary>
        private const long MostRatio = 500;
        private const long AlwaysAllowedBytes = 64L << 20;

        private readonly FileStream file;
        private readonly string path;
        private readonly Compression compression;
        private readonly Stream decoder;
        private long written;

        public DecompressedFile(FileStream file, string path, Compression compression)
        {
            (this.file, this.path, this.compression) = (file, path, compression);
            if (file.Length == 0) // which decoders take for an empty text
            {
                file.Dispose();
                throw Damaged("an empty file", null);
            }
            decoder = compression.Decode(file);
        }

        public override int Read(Span<byte> buffer)
        {
            int read;
            try
            {
                read = decoder.Read(buffer);
            }
            // The decoders throw many things at damage, from their own exceptions to IndexOutOfRangeException.
            catch (Exception e) when (e is not (PipelineException or OutOfMemoryException))
            {
                throw Damaged(e.Message.TrimEnd('.'), e);
            }
            written += read;
            if (written > AlwaysAllowedBytes && written / Math.Max(1, file.Position) >= MostRatio)
            {
                throw Damaged($"more than {MostRatio} bytes of text a byte", null);
            }
            return read;
        }

        protected override void Dispose(bool disposing)
        {
            if (disposing)
            {
                try
                {
                    decoder.Dispose();
                }
                catch (Exception e) when (e is not OutOfMemoryException) // a decoder left in the middle of damage
                {
                    file.Dispose();
                }
            }
            base.Dispose(disposing);
        }

        private ConfigurationException Damaged(string found, Exception? inner) =>
            new(
                new Fault(
                    $"{path}: compressed byte {(file.CanRead ? file.Position : 0)} or before",
                    found,
                    $"a whole {compression.Name} file",
                    "Download or compress it again"
                ).ToString(),
                inner
            );
    }
}
