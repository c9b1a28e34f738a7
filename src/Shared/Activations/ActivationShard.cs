using System.Buffers;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Apache.Arrow.Types;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Activations;

/// <summary>
/// One shard opened for reading through a memory map: activations stay in the page cache until they are copied out.
/// Reading from several threads at once is safe; disposing while another thread reads is not.
/// </summary>
public sealed unsafe class ActivationShard : IDisposable
{
    private const int StreamBegin = 8; // an IPC file is "ARROW1", two bytes of padding, then an IPC stream
    private const int ShortestFile = 32;
    private const string Remedy = "Restore the shard from a copy, or run harvest again";

    private readonly MappedMemory memory;
    private readonly ActivationCodec codec;
    private readonly List<Batch> batches;
    private readonly Lazy<int[]> tokens;
    private readonly Lazy<int[]> documents;
    private readonly Lazy<int[]> positions;

    private ActivationShard(string path, MappedMemory memory, Parsed parsed)
    {
        Path = path;
        this.memory = memory;
        (Metadata, Dtype, batches) = parsed;
        codec = ActivationCodec.For(Dtype);
        Rows = batches.Count == 0 ? 0 : batches[^1].FirstRow + batches[^1].Rows;
        tokens = new(() => Concatenate(batch => batch.TokensAt));
        documents = new(() => Concatenate(batch => batch.DocumentsAt));
        positions = new(() => Concatenate(batch => batch.PositionsAt));
    }

    public string Path { get; }

    public ShardMetadata Metadata { get; }

    public ActivationDtype Dtype { get; }

    public int Rows { get; }

    /// <summary>D, values a row.</summary>
    public int Width => Metadata.DModel;

    /// <summary>Token ids, [Rows]; copied out of the file on first use.</summary>
    public ReadOnlySpan<int> Tokens => tokens.Value;

    /// <summary>Document indices, [Rows]; copied out of the file on first use.</summary>
    public ReadOnlySpan<int> Documents => documents.Value;

    /// <summary>Positions in the context, [Rows]; copied out of the file on first use.</summary>
    public ReadOnlySpan<int> Positions => positions.Value;

    /// <summary>Opens a shard.</summary>
    /// <param name="path">The Arrow file.</param>
    /// <param name="expected">
    /// What its manifest says of it: the whole file is read and compared before anything is parsed. Null skips that, and
    /// then only the file's structure is checked: an altered activation goes unnoticed.
    /// </param>
    /// <exception cref="CorruptArtifactException">The file is missing, altered, truncated or no activation shard.</exception>
    public static ActivationShard Open(string path, FileDigest? expected = null)
    {
        using var file = OpenFile(path);
        RequireDigest(path, file, expected);
        RequireMagic(path, file);
        var memory = new MappedMemory(file);
        try
        {
            return new ActivationShard(path, memory, Parse(path, memory));
        }
        catch (Exception e)
        {
            ((IDisposable)memory).Dispose();
            // A damaged flatbuffer makes Arrow throw whatever the damaged bytes lead to.
            throw e is PipelineException ? e : Corrupt(path, e.Message, "an Arrow file with an activation column", e);
        }
    }

    /// <summary>Copies one row, widened to float32, into <paramref name="destinationD"/>.</summary>
    public void CopyRow(int row, Span<float> destinationD) => CopyRows(row, 1, destinationD);

    /// <summary>Copies rows [firstRow, firstRow + count), widened to float32.</summary>
    /// <param name="firstRow">From 0.</param>
    /// <param name="count">Rows, n.</param>
    /// <param name="destinationND">Row-major [n, D].</param>
    public void CopyRows(int firstRow, int count, Span<float> destinationND)
    {
        ObjectDisposedException.ThrowIf(memory.Start is null, this);
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)firstRow + count, Rows, nameof(count));
        for (int b = BatchOf(firstRow); count > 0; b++)
        {
            int inBatch = firstRow - batches[b].FirstRow;
            int n = Math.Min(count, batches[b].Rows - inBatch);
            CopyValues(batches[b], inBatch, n, destinationND[..(n * Width)]);
            destinationND = destinationND[(n * Width)..];
            firstRow += n;
            count -= n;
        }
    }

    /// <summary>
    /// Says where rows [firstRow, firstRow + n) lie, and reads a byte of each of their pages, in the file's order: what is not
    /// in the page cache is read from the disk in long runs, not row by row later.
    /// </summary>
    /// <param name="firstRow">From 0.</param>
    /// <param name="rowsN">Receives them; good until the shard is disposed.</param>
    internal void Locate(int firstRow, Span<StoredRow> rowsN)
    {
        ObjectDisposedException.ThrowIf(memory.Start is null, this);
        ArgumentOutOfRangeException.ThrowIfNegative(firstRow);
        ArgumentOutOfRangeException.ThrowIfGreaterThan((long)firstRow + rowsN.Length, Rows, nameof(rowsN));
        long rowBytes = (long)Width * codec.ItemBytes;
        int at = 0;
        for (int b = BatchOf(firstRow); at < rowsN.Length; b++)
        {
            int inBatch = firstRow + at - batches[b].FirstRow;
            int n = Math.Min(rowsN.Length - at, batches[b].Rows - inBatch);
            byte* values = memory.Start + batches[b].ActivationsAt + (inBatch * rowBytes);
            float* scales = (float*)(memory.Start + batches[b].ScalesAt) + inBatch;
            for (int i = 0; i < n; i++)
            {
                rowsN[at + i] = new StoredRow(values + (i * rowBytes), codec.HasScale ? scales[i] : 1);
            }
            Touch(values, n * rowBytes);
            at += n;
        }
    }

    /// <summary>Widens located rows to float32.</summary>
    /// <param name="rowsN">Of this or another shard of the same width and type.</param>
    /// <param name="destinationND">Row-major [n, D].</param>
    internal void Widen(ReadOnlySpan<StoredRow> rowsN, Span<float> destinationND)
    {
        ObjectDisposedException.ThrowIf(memory.Start is null, this);
        int rowBytes = Width * codec.ItemBytes;
        for (int i = 0; i < rowsN.Length; i++)
        {
            if (i + 1 < rowsN.Length)
            {
                Prefetch(rowsN[i + 1].Values, rowBytes);
            }
            codec.Decode(
                new ReadOnlySpan<byte>(rowsN[i].Values, rowBytes),
                codec.HasScale ? new ReadOnlySpan<float>(in rowsN[i].Scale) : [],
                destinationND.Slice(i * Width, Width)
            );
        }
    }

    public void Dispose() => ((IDisposable)memory).Dispose();

    /// <summary>Rows lie anywhere: without this each begins with a wait for memory.</summary>
    private static void Prefetch(byte* values, int bytes)
    {
        const int CacheLine = 64;
        for (int i = 0; Sse.IsSupported && i < bytes; i += CacheLine)
        {
            Sse.Prefetch0(values + i);
        }
    }

    private static void Touch(byte* values, long bytes)
    {
        for (long i = 0; i < bytes; i += Environment.SystemPageSize)
        {
            Volatile.Read(ref values[i]);
        }
    }

    private void CopyValues(Batch batch, int row, int rows, Span<float> destinationND)
    {
        byte* source = memory.Start + batch.ActivationsAt + ((long)row * Width * codec.ItemBytes);
        float* scales = (float*)(memory.Start + batch.ScalesAt) + row;
        codec.Decode(
            new ReadOnlySpan<byte>(source, destinationND.Length * codec.ItemBytes),
            codec.HasScale ? new ReadOnlySpan<float>(scales, rows) : [],
            destinationND
        );
    }

    private int BatchOf(int row)
    {
        int low = 0;
        int high = batches.Count - 1;
        while (low < high)
        {
            int middle = (low + high + 1) / 2;
            (low, high) = batches[middle].FirstRow <= row ? (middle, high) : (low, middle - 1);
        }
        return low;
    }

    private int[] Concatenate(Func<Batch, long> column)
    {
        ObjectDisposedException.ThrowIf(memory.Start is null, this);
        int[] all = new int[Rows];
        foreach (var batch in batches)
        {
            new ReadOnlySpan<int>(memory.Start + column(batch), batch.Rows).CopyTo(all.AsSpan(batch.FirstRow));
        }
        return all;
    }

    private static FileStream OpenFile(string path)
    {
        try
        {
            return new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Corrupt(path, File.Exists(path) ? e.Message : "no file", "an activation shard", e);
        }
    }

    private static void RequireDigest(string path, FileStream file, FileDigest? expected)
    {
        if (expected is null)
        {
            return;
        }
        if (file.Length != expected.Bytes)
        {
            throw Corrupt(path, $"{file.Length} bytes", $"{expected.Bytes} bytes");
        }
        string sha256 = AtomicFile.Digest(file).Sha256;
        if (sha256 != expected.Sha256)
        {
            throw Corrupt(path, $"SHA-256 {sha256}", expected.Sha256);
        }
    }

    private static void RequireMagic(string path, FileStream file)
    {
        var magic = "ARROW1"u8;
        Span<byte> bytes = stackalloc byte[magic.Length];
        foreach (long at in (ReadOnlySpan<long>)[0, file.Length - magic.Length])
        {
            if (file.Length is >= ShortestFile and < int.MaxValue)
            {
                file.Position = at;
                file.ReadExactly(bytes);
            }
            if (!bytes.SequenceEqual(magic))
            {
                throw Corrupt(
                    path,
                    $"{file.Length} bytes that do not begin and end with ARROW1",
                    "an Arrow file of less than 2 GiB"
                );
            }
        }
    }

    private static Parsed Parse(string path, MappedMemory memory)
    {
        ArrowMessages.RequirePlain(memory.GetSpan()[StreamBegin..]);
        using var reader = new ArrowStreamReader(memory.Memory[StreamBegin..]);
        var (metadata, dtype) = ReadSchema(path, reader.Schema);
        var batches = new List<Batch>();
        int rows = 0;
        while (reader.ReadNextRecordBatch() is { } arrow)
        {
            batches.Add(Locate(memory, arrow, rows, metadata.DModel, dtype));
            rows = checked(rows + arrow.Length);
        }
        return new Parsed(metadata, dtype, batches);
    }

    private static (ShardMetadata, ActivationDtype) ReadSchema(string path, Schema schema)
    {
        var metadata = ShardMetadata.FromPairs(schema.Metadata ?? new Dictionary<string, string>());
        var dtype =
            ShardSchema.DtypeOf(schema, metadata.DModel)
            ?? throw Corrupt(
                path,
                $"columns {ShardSchema.Describe(schema)}",
                $"token, document, position (int32) and activation[{metadata.DModel}] of a known type"
            );
        return (metadata, dtype);
    }

    private static Batch Locate(MappedMemory memory, RecordBatch batch, int firstRow, int width, ActivationDtype dtype)
    {
        var list = (FixedSizeListArray)batch.Column(3);
        int values = checked(batch.Length * width);
        long activationsAt = dtype switch
        {
            ActivationDtype.Float16 => Offset(memory, list, ((HalfFloatArray)list.Values).Values, values),
            ActivationDtype.BFloat16 => Offset(memory, list, ((UInt16Array)list.Values).Values, values),
            ActivationDtype.Int8 => Offset(memory, list, ((Int8Array)list.Values).Values, values),
            _ => Offset(memory, list, ((FloatArray)list.Values).Values, values),
        };
        long scalesAt =
            dtype == ActivationDtype.Int8
                ? Offset(memory, batch.Column(4), ((FloatArray)batch.Column(4)).Values, batch.Length)
                : 0;
        return new Batch(firstRow, batch.Length, Column(0), Column(1), Column(2), activationsAt, scalesAt);

        long Column(int i) => Offset(memory, batch.Column(i), ((Int32Array)batch.Column(i)).Values, batch.Length);
    }

    /// <summary>Where in the file the first of <paramref name="count"/> values lies.</summary>
    private static long Offset<T>(MappedMemory memory, IArrowArray array, ReadOnlySpan<T> values, int count)
        where T : unmanaged
    {
        if (array.NullCount != 0 || array.Offset != 0 || values.Length < count)
        {
            throw new InvalidDataException($"a column has nulls, or {values.Length} values where {count} belong");
        }
        fixed (T* first = values) // mapped memory does not move
        {
            long at = (byte*)first - memory.Start;
            bool mapped = at >= 0 && at + ((long)count * sizeof(T)) <= memory.GetSpan().Length;
            return mapped || count == 0 ? at : throw new InvalidDataException("a compressed column");
        }
    }

    private static CorruptArtifactException Corrupt(
        string path,
        string found,
        string expected,
        Exception? inner = null
    ) => new(new Fault(path, found, expected, Remedy).ToString(), inner);

    /// <summary>Rows of one record batch and the file offsets of its columns.</summary>
    private sealed record Batch(
        int FirstRow,
        int Rows,
        long TokensAt,
        long DocumentsAt,
        long PositionsAt,
        long ActivationsAt,
        long ScalesAt
    );

    private sealed record Parsed(ShardMetadata Metadata, ActivationDtype Dtype, List<Batch> Batches);
}
