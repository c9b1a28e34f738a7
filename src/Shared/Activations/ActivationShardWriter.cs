using System.Runtime.InteropServices;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Writes one activation shard, an Arrow IPC file with the columns <c>token</c>, <c>document</c>, <c>position</c> (int32)
/// and <c>activation</c>, a fixed-size list of the stored type (<see cref="ShardSchema"/>). The same rows give the same bytes however they are divided
/// among calls of Append. Nothing appears under the shard's name before <see cref="Commit"/>.
/// </summary>
public sealed class ActivationShardWriter : IDisposable
{
    /// <summary>Readers map a shard as one span of memory, which ends at 2 GiB.</summary>
    public const long MaximumBytes = int.MaxValue;

    private const int BatchBytes = 4 << 20;

    private readonly ActivationDtype dtype;
    private readonly ActivationCodec codec;
    private readonly ShardMetadata metadata;
    private readonly Schema schema;
    private readonly PendingFile pending;
    private readonly ArrowFileWriter writer;
    private readonly int batchRows;
    private readonly byte[] tokens;
    private readonly byte[] documents;
    private readonly byte[] positions;
    private readonly byte[] activations;
    private readonly byte[] scales;
    private readonly EncodedRows encoded;
    private int buffered;

    /// <param name="path">The shard's final path; missing folders are created.</param>
    /// <param name="dtype">The element type activations are stored in.</param>
    /// <param name="metadata">Where the activations come from; its DModel is the width of a row.</param>
    public ActivationShardWriter(string path, ActivationDtype dtype, ShardMetadata metadata)
    {
        ArgumentNullException.ThrowIfNull(metadata);
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(metadata.DModel);
        this.dtype = dtype;
        codec = ActivationCodec.For(dtype);
        this.metadata = metadata;
        int rowBytes = checked(metadata.DModel * codec.ItemBytes);
        batchRows = Math.Clamp(BatchBytes / rowBytes, 1, 4096);
        tokens = new byte[batchRows * sizeof(int)];
        documents = new byte[batchRows * sizeof(int)];
        positions = new byte[batchRows * sizeof(int)];
        activations = GC.AllocateUninitializedArray<byte>(batchRows * rowBytes);
        scales = new byte[codec.HasScale ? batchRows * sizeof(float) : 0];
        encoded = new EncodedRows(dtype, metadata.DModel);
        schema = ShardSchema.Of(dtype, metadata);
        pending = AtomicFile.Begin(path);
        writer = new ArrowFileWriter(new ForwardOnlyStream(pending.Stream), schema, leaveOpen: true);
    }

    /// <summary>Rows appended so far.</summary>
    public int Rows { get; private set; }

    /// <summary>The most rows a shard of <paramref name="bytes"/> bytes holds, at least 1.</summary>
    public static int RowsWithin(long bytes, int width, ActivationDtype dtype)
    {
        long rowBytes = ((long)width * ActivationCodec.For(dtype).ItemBytes) + (4 * sizeof(int));
        const long Overhead = 1 << 20; // schema, batch headers and footer, generously
        return (int)Math.Clamp((Math.Min(bytes, MaximumBytes) - Overhead) / rowBytes, 1, int.MaxValue);
    }

    /// <summary>Appends T rows.</summary>
    /// <param name="tokensT">Token ids, [T].</param>
    /// <param name="documentsT">Document indices, [T].</param>
    /// <param name="positionsT">Positions in the context, [T].</param>
    /// <param name="activationsTD">Activations, row-major [T, D].</param>
    /// <exception cref="StageFailedException">
    /// A value is NaN, infinite or beyond the stored type's range, the shard would pass 2 GiB, or the disk is full.
    /// </exception>
    public void Append(
        ReadOnlySpan<int> tokensT,
        ReadOnlySpan<int> documentsT,
        ReadOnlySpan<int> positionsT,
        ReadOnlySpan<float> activationsTD
    )
    {
        encoded.Encode(metadata.Hook, metadata.FirstTokenIndex + Rows, activationsTD, threads: 1);
        Append(tokensT, documentsT, positionsT, encoded);
    }

    /// <summary>Appends T rows that are encoded already.</summary>
    /// <param name="tokensT">Token ids, [T].</param>
    /// <param name="documentsT">Document indices, [T].</param>
    /// <param name="positionsT">Positions in the context, [T].</param>
    /// <param name="rowsTD">The rows in this shard's type and width; not needed afterwards.</param>
    /// <exception cref="StageFailedException">The shard would pass 2 GiB, or the disk is full.</exception>
    public void Append(
        ReadOnlySpan<int> tokensT,
        ReadOnlySpan<int> documentsT,
        ReadOnlySpan<int> positionsT,
        EncodedRows rowsTD
    )
    {
        ArgumentNullException.ThrowIfNull(rowsTD);
        int rows = tokensT.Length;
        if (
            (documentsT.Length, positionsT.Length) != (rows, rows)
            || (rowsTD.Rows, rowsTD.Width, rowsTD.Dtype) != (rows, metadata.DModel, dtype)
        )
        {
            throw new ArgumentException(
                $"{rows} tokens need as many documents and positions and {rows} x {metadata.DModel} activations as {dtype}",
                nameof(rowsTD)
            );
        }
        RequireRoom(rows);
        int rowBytes = metadata.DModel * codec.ItemBytes;
        for (int at = 0; at < rows; )
        {
            int n = Math.Min(batchRows - buffered, rows - at);
            var items = rowsTD.Items.Slice(at * rowBytes, n * rowBytes);
            tokensT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(tokens.AsSpan())[buffered..]);
            documentsT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(documents.AsSpan())[buffered..]);
            positionsT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(positions.AsSpan())[buffered..]);
            if (codec.HasScale)
            {
                rowsTD.Scales.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, float>(scales.AsSpan())[buffered..]);
            }
            if (n == batchRows)
            {
                WriteBatch(items, n); // a whole batch goes from where it lies
            }
            else
            {
                items.CopyTo(activations.AsMemory(buffered * rowBytes));
                buffered += n;
            }
            if (buffered == batchRows)
            {
                WriteBuffered();
            }
            at += n;
        }
        Rows += rows;
    }

    /// <summary>Publishes the shard.</summary>
    /// <exception cref="InvalidOperationException">No row was appended.</exception>
    /// <exception cref="StageFailedException">The disk is full.</exception>
    public FileDigest Commit()
    {
        if (Rows == 0)
        {
            throw new InvalidOperationException($"{pending.Path}: a shard has at least one row");
        }
        if (buffered > 0)
        {
            WriteBuffered();
        }
        writer.WriteEnd();
        return pending.Commit();
    }

    public void Dispose()
    {
        writer.Dispose();
        pending.Dispose();
    }

    private void WriteBuffered()
    {
        WriteBatch(activations.AsMemory(0, buffered * metadata.DModel * codec.ItemBytes), buffered);
        buffered = 0;
    }

    /// <summary>Writes the first rows of the other columns with these.</summary>
    private void WriteBatch(ReadOnlyMemory<byte> itemsND, int rows)
    {
        var type = schema.GetFieldByName(ShardSchema.Activation).DataType;
        var items = codec.Array(new ArrowBuffer(itemsND), rows * metadata.DModel);
        List<IArrowArray> columns =
        [
            Column(tokens, rows),
            Column(documents, rows),
            Column(positions, rows),
            new FixedSizeListArray(type, rows, items, ArrowBuffer.Empty),
        ];
        if (codec.HasScale)
        {
            var factors = new ArrowBuffer(scales.AsMemory(0, rows * sizeof(float)));
            columns.Add(new FloatArray(factors, ArrowBuffer.Empty, rows, 0, 0));
        }
        using var batch = new RecordBatch(schema, columns, rows);
        writer.WriteRecordBatch(batch);
    }

    private static Int32Array Column(byte[] bytes, int rows) =>
        new(new ArrowBuffer(bytes.AsMemory(0, rows * sizeof(int))), ArrowBuffer.Empty, rows, 0, 0);

    private void RequireRoom(int rows)
    {
        if ((long)Rows + rows > RowsWithin(MaximumBytes, metadata.DModel, dtype))
        {
            throw new StageFailedException(
                new Fault(
                    pending.Path,
                    $"{(long)Rows + rows} rows of {metadata.DModel} values",
                    "a shard below 2 GiB",
                    "Write fewer rows a shard"
                ).ToString()
            );
        }
    }
}
