using System.Buffers.Binary;
using System.Globalization;

namespace Pipeline.Shared.Text;

/// <summary>
/// Checks the lengths and counts a Parquet file gives, before its reader believes them: a damaged count costs the library
/// hours or all memory. Footer and page headers are Thrift structures in the compact protocol.
/// </summary>
internal static class ParquetShape
{
    public const long MaximumColumnBytes = 1L << 30;

    private const int MaximumFooterBytes = 32 << 20;
    private const int MaximumHeaderBytes = 16 << 20;
    private const int MaximumFields = 1000;
    private const long SmallPageBytes = 64 << 20;
    private const long MostRatio = 500;

    private static readonly byte[] Magic = [.. "PAR1"u8];

    /// <exception cref="InvalidDataException">It is not one.</exception>
    public static void CheckFooter(FileStream file)
    {
        Span<byte> end = stackalloc byte[8];
        if (file.Length < 12)
        {
            throw new InvalidDataException($"{file.Length} bytes");
        }
        RandomAccess.Read(file.SafeFileHandle, end, file.Length - end.Length);
        int length = BinaryPrimitives.ReadInt32LittleEndian(end);
        if (!end[4..].SequenceEqual(Magic) || length < 0 || length > Math.Min(MaximumFooterBytes, file.Length - 12))
        {
            throw new InvalidDataException("no footer at its end");
        }
        byte[] footer = new byte[length];
        RandomAccess.Read(file.SafeFileHandle, footer, file.Length - end.Length - length);
        var (fields, read) = Thrift.Read(footer);
        if (read < length || fields.GetValueOrDefault(Thrift.Key(2)) is < 2 or > MaximumFields)
        {
            throw new InvalidDataException("a footer of another form");
        }
    }

    /// <param name="file">The file.</param>
    /// <param name="start">Where the column's first page begins.</param>
    /// <param name="length">Bytes of all its pages.</param>
    /// <param name="rows">Values all data pages hold together.</param>
    /// <exception cref="InvalidDataException">The pages are not what the column says.</exception>
    public static void CheckPages(FileStream file, long start, long length, long rows)
    {
        long end = start + length;
        if (start < Magic.Length || length < 0 || length > file.Length || end > file.Length)
        {
            throw new InvalidDataException($"pages from byte {start} to {end}");
        }
        long values = 0;
        long bytes = 0;
        for (long at = start; at < end; )
        {
            var (header, headerLength) = Header(file, at, end);
            long Field(params ReadOnlySpan<int> path) => header.GetValueOrDefault(Thrift.Key(path), -1);
            long uncompressed = Field(2);
            long compressed = Field(3);
            long count = Math.Max(Field(5, 1), Math.Max(Field(7, 1), Field(8, 1)));
            bool isDictionary = Field(1) == 2;
            bytes += Math.Max(0, uncompressed);
            values += isDictionary ? 0 : count;
            if (
                compressed < 0
                || uncompressed < 0
                || count < 0
                || compressed > end - at - headerLength
                || bytes > MaximumColumnBytes
                || (uncompressed > SmallPageBytes && uncompressed / MostRatio > compressed)
                || values > rows
                || (isDictionary && count > uncompressed)
            )
            {
                throw new InvalidDataException(
                    string.Create(
                        CultureInfo.InvariantCulture,
                        $"a page at byte {at} of {count} values in {compressed} bytes, {uncompressed} without compression"
                    )
                );
            }
            at += headerLength + compressed;
        }
        if (values != rows)
        {
            throw new InvalidDataException($"{values} values for {rows} rows");
        }
    }

    private static (Dictionary<int, long> Fields, int Length) Header(FileStream file, long at, long end)
    {
        for (int size = 1 << 12; ; size *= 4)
        {
            byte[] window = new byte[Math.Min(size, end - at)];
            RandomAccess.Read(file.SafeFileHandle, window, at);
            try
            {
                return Thrift.Read(window);
            }
            catch (EndOfStreamException) when (window.Length < end - at && size < MaximumHeaderBytes)
            {
                continue; // its statistics hold long texts
            }
        }
    }

    /// <summary>Walks a structure without knowing its fields.</summary>
    private ref struct Thrift
    {
        private const int MaximumDepth = 32;
        private readonly ReadOnlySpan<byte> bytes;
        private readonly Dictionary<int, long> fields = [];
        private int at;

        private Thrift(ReadOnlySpan<byte> bytes) => this.bytes = bytes;

        /// <returns>
        /// Numbers, and the lengths of lists, of the structure and of those directly inside it, by <see cref="Key"/>; bytes read.
        /// </returns>
        /// <exception cref="EndOfStreamException">It goes beyond the bytes.</exception>
        /// <exception cref="InvalidDataException">It is none.</exception>
        public static (Dictionary<int, long> Fields, int Length) Read(ReadOnlySpan<byte> bytes)
        {
            var walk = new Thrift(bytes);
            walk.Structure(0, 0);
            return (walk.fields, walk.at);
        }

        /// <summary>A field's number, after that of the structure it is in.</summary>
        public static int Key(params ReadOnlySpan<int> path) =>
            path is [var outer, var inner] ? (outer << 16) + inner : path[0];

        private void Structure(int outer, int depth)
        {
            int id = 0;
            for (byte head = Byte(); head != 0; head = Byte())
            {
                id = head >> 4 == 0 ? (short)Number() : id + (head >> 4);
                if (id is < 0 or > short.MaxValue)
                {
                    throw new InvalidDataException("a field without number");
                }
                if (Value(head & 15, id, depth) is { } value && depth <= 1)
                {
                    fields[Key(outer, id)] = value;
                }
            }
        }

        private long? Value(int type, int id, int depth)
        {
            switch (type)
            {
                case 1 or 2: // true and false, said by the type
                    return null;
                case 3:
                    return Byte();
                case 4 or 5 or 6:
                    return Number();
                case 7:
                    Skip(8);
                    return null;
                case 8:
                    Skip(Length());
                    return null;
                case 9 or 10:
                    return List(depth);
                case 12 when depth < MaximumDepth:
                    Structure(depth == 0 ? id : 0, depth + 1);
                    return null;
                default: // Parquet has no maps
                    throw new InvalidDataException($"a value of type {type}");
            }
        }

        private long List(int depth)
        {
            byte head = Byte();
            long count = head >> 4 == 15 ? Length() : head >> 4;
            if (count > bytes.Length - at)
            {
                throw new EndOfStreamException($"a list of {count}");
            }
            int type = head & 15;
            for (long i = 0; i < count; i++)
            {
                if (type is 1 or 2)
                {
                    Byte();
                }
                else
                {
                    Value(type, 0, Math.Max(2, depth + 1));
                }
            }
            return count;
        }

        private void Skip(long count)
        {
            if (count > bytes.Length - at)
            {
                throw new EndOfStreamException($"{count} bytes");
            }
            at += (int)count;
        }

        private long Length()
        {
            ulong length = Unsigned();
            return length <= int.MaxValue ? (long)length : throw new InvalidDataException($"a length of {length}");
        }

        private long Number()
        {
            ulong number = Unsigned();
            return (long)(number >> 1) ^ -(long)(number & 1);
        }

        private ulong Unsigned()
        {
            ulong number = 0;
            for (int shift = 0; shift < 64; shift += 7)
            {
                byte next = Byte();
                number |= (ulong)(next & 127) << shift;
                if (next < 128)
                {
                    return number;
                }
            }
            throw new InvalidDataException("a number of more than 64 bits");
        }

        private byte Byte() => at < bytes.Length ? bytes[at++] : throw new EndOfStreamException("its end is missing");
    }
}
