using System.Buffers.Binary;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Looks through the messages of an Arrow stream before Arrow's reader does. That reader believes the counts in a message
/// and allocates for them; a few damaged bytes make it ask for gigabytes. Here every count is held against what a shard has.
/// </summary>
internal static class ArrowMessages
{
    private const int MostColumns = 8;
    private const int MostWords = 64; // entries of schema or field metadata
    private const uint Continuation = 0xFFFF_FFFF;
    private const byte SchemaHeader = 1;
    private const byte BatchHeader = 3;

    /// <summary>Refuses a stream whose messages ask for more than a shard has.</summary>
    /// <exception cref="InvalidDataException">Such a stream.</exception>
    /// <exception cref="ArgumentOutOfRangeException">A position beyond the stream's end.</exception>
    public static void RequirePlain(ReadOnlySpan<byte> stream)
    {
        long at = 0;
        while (true)
        {
            var head = stream[(int)at..];
            if (BinaryPrimitives.ReadUInt32LittleEndian(head) != Continuation)
            {
                throw new InvalidDataException("no message where one begins");
            }
            int length = BinaryPrimitives.ReadInt32LittleEndian(head[4..]);
            if (length == 0)
            {
                return; // the end of the stream; the file's footer follows
            }
            Require(length > 0, "a message of negative length");
            long body = RequirePlainMessage(head.Slice(8, length));
            at += 8 + length;
            Require(body >= 0 && body <= stream.Length - at, "a body beyond the file's end");
            at += body;
        }
    }

    /// <summary>Message {version, header_type, header, bodyLength}; returns the body's length.</summary>
    private static long RequirePlainMessage(ReadOnlySpan<byte> metadata)
    {
        var message = Table.Root(metadata);
        switch (message.Byte(1))
        {
            case SchemaHeader:
                RequirePlainSchema(message.Child(2));
                break;
            case BatchHeader:
                RequirePlainBatch(message.Child(2));
                break;
            default:
                throw new InvalidDataException("a message that is neither schema nor record batch");
        }
        return message.Long(3);
    }

    /// <summary>Schema {endianness, fields, custom_metadata}; Field {.., children (5), custom_metadata (6)}.</summary>
    private static void RequirePlainSchema(Table schema)
    {
        Require(schema.Count(2) <= MostWords, "too many words in the schema");
        int columns = schema.Count(1);
        Require(columns <= MostColumns, $"{columns} columns");
        for (int i = 0; i < columns; i++)
        {
            var column = schema.Item(1, i);
            Require(column.Count(5) <= 1 && column.Count(6) <= MostWords, "a column of another shape");
            if (column.Count(5) == 1)
            {
                var item = column.Item(5, 0);
                Require(item.Count(5) == 0 && item.Count(6) <= MostWords, "a column nested more deeply");
            }
        }
    }

    /// <summary>RecordBatch {length, nodes, buffers, compression, variadicBufferCounts}.</summary>
    private static void RequirePlainBatch(Table batch)
    {
        const int MostBuffers = 4 * MostColumns;
        Require(batch.Count(1) <= 2 * MostColumns, "too many field nodes");
        Require(batch.Count(2) <= MostBuffers, "too many buffers");
        Require(!batch.Has(3), "compressed buffers");
        Require(batch.Count(4) == 0, "buffers of variable number");
    }

    private static void Require(bool condition, string otherwise)
    {
        if (!condition)
        {
            throw new InvalidDataException(otherwise);
        }
    }

    /// <summary>A table of a flatbuffer, its fields by number. Every position is checked against the buffer's end.</summary>
    private readonly ref struct Table
    {
        private readonly ReadOnlySpan<byte> buffer;
        private readonly int start;

        private Table(ReadOnlySpan<byte> buffer, int start)
        {
            this.buffer = buffer;
            this.start = start;
        }

        public static Table Root(ReadOnlySpan<byte> buffer) => new(buffer, Follow(buffer, 0));

        public bool Has(int field) => Position(field) != 0;

        public byte Byte(int field) => Position(field) is > 0 and var at ? buffer[at] : (byte)0;

        public long Long(int field) =>
            Position(field) is > 0 and var at ? BinaryPrimitives.ReadInt64LittleEndian(buffer[at..]) : 0;

        public Table Child(int field)
        {
            int at = Position(field);
            Require(at > 0, "a message without its header");
            return new(buffer, Follow(buffer, at));
        }

        /// <summary>Items of a vector, 0 where it is absent.</summary>
        public int Count(int field)
        {
            int at = Position(field);
            int count = at == 0 ? 0 : BinaryPrimitives.ReadInt32LittleEndian(buffer[Follow(buffer, at)..]);
            Require(count >= 0, "a vector of negative length");
            return count;
        }

        /// <summary>A table in a vector of tables.</summary>
        public Table Item(int field, int index)
        {
            int vector = Follow(buffer, Position(field));
            return new(buffer, Follow(buffer, vector + sizeof(int) + (index * sizeof(int))));
        }

        private int Position(int field)
        {
            int vtable = start - BinaryPrimitives.ReadInt32LittleEndian(buffer[start..]);
            int size = BinaryPrimitives.ReadUInt16LittleEndian(buffer[vtable..]);
            int entry = 4 + (2 * field);
            int offset = entry + 2 <= size ? BinaryPrimitives.ReadUInt16LittleEndian(buffer[(vtable + entry)..]) : 0;
            return offset == 0 ? 0 : start + offset;
        }

        private static int Follow(ReadOnlySpan<byte> buffer, int at) =>
            checked(at + (int)BinaryPrimitives.ReadUInt32LittleEndian(buffer[at..]));
    }
}
