using System.Globalization;
using System.Runtime.InteropServices;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Writes one activation shard, an Arrow IPC file with the columns <c>token</c>, <c>document</c>, <c>position</c> (int32)
/// and <c>activation</c>, a fixed-size list of the stored type (<see cref="ShardSchema"/>). The same rows give the same bytes however they are divided
/// among calls of <see cref="Append"/>. Nothing appears under the shard's name before <see cref="Commit"/>.
/// </summary>
public sealed class ActivationShardWriter : IDisposable
{
    /// <summary>Readers map a shard as one span of memory, which ends at 2 GiB.</summary>
    public const long MaximumBytes = int.MaxValue;

    private const int BatchBytes = 4 << 20;

    /// <summary>Values looked at and then stored at a time: they stay in a core's cache meanwhile.</summary>
    private const int StretchValues = 1 << 16;

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
        activations = new byte[batchRows * rowBytes];
        scales = new byte[codec.HasScale ? batchRows * sizeof(float) : 0];
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
        int d = metadata.DModel;
        int rows = tokensT.Length;
        if (documentsT.Length != rows || positionsT.Length != rows || activationsTD.Length != (long)rows * d)
        {
            throw new ArgumentException(
                $"{rows} tokens need as many documents and positions and {rows} x {d} activations",
                nameof(activationsTD)
            );
        }
        RequireRoom(rows);
        int stretch = Math.Max(1, StretchValues / d);
        for (int at = 0; at < rows; )
        {
            int n = Math.Min(Math.Min(batchRows - buffered, rows - at), stretch);
            RequireStorable(activationsTD.Slice(at * d, n * d), at);
            tokensT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(tokens.AsSpan())[buffered..]);
            documentsT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(documents.AsSpan())[buffered..]);
            positionsT.Slice(at, n).CopyTo(MemoryMarshal.Cast<byte, int>(positions.AsSpan())[buffered..]);
            Store(activationsTD.Slice(at * d, n * d), n);
            buffered += n;
            at += n;
            if (buffered == batchRows)
            {
                WriteBatch();
            }
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
            WriteBatch();
        }
        writer.WriteEnd();
        return pending.Commit();
    }

    public void Dispose()
    {
        writer.Dispose();
        pending.Dispose();
    }

    private void Store(ReadOnlySpan<float> valuesND, int rows)
    {
        var scalesN = MemoryMarshal.Cast<byte, float>(scales.AsSpan());
        codec.Encode(
            valuesND,
            activations.AsSpan(buffered * metadata.DModel * codec.ItemBytes, valuesND.Length * codec.ItemBytes),
            codec.HasScale ? scalesN.Slice(buffered, rows) : []
        );
    }

    private void WriteBatch()
    {
        int values = buffered * metadata.DModel;
        var items = codec.Array(new ArrowBuffer(activations.AsMemory(0, values * codec.ItemBytes)), values);
        var type = schema.GetFieldByName(ShardSchema.Activation).DataType;
        List<IArrowArray> columns =
        [
            Column(tokens),
            Column(documents),
            Column(positions),
            new FixedSizeListArray(type, buffered, items, ArrowBuffer.Empty),
        ];
        if (codec.HasScale)
        {
            var factors = new ArrowBuffer(scales.AsMemory(0, buffered * sizeof(float)));
            columns.Add(new FloatArray(factors, ArrowBuffer.Empty, buffered, 0, 0));
        }
        using var batch = new RecordBatch(schema, columns, buffered);
        writer.WriteRecordBatch(batch);
        buffered = 0;
    }

    private Int32Array Column(byte[] bytes) =>
        new(new ArrowBuffer(bytes.AsMemory(0, buffered * sizeof(int))), ArrowBuffer.Empty, buffered, 0, 0);

    private void RequireStorable(ReadOnlySpan<float> valuesTD, int firstRow)
    {
        float limit = codec.Largest;
        if (valuesTD.IsEmpty || MathF.Abs(TensorPrimitives.MaxMagnitude(valuesTD)) <= limit)
        {
            return; // MaxMagnitude hands on a NaN, which compares false
        }
        int at = 0;
        while (MathF.Abs(valuesTD[at]) <= limit)
        {
            at++;
        }
        float value = valuesTD[at];
        string where = string.Create(
            CultureInfo.InvariantCulture,
            $"{metadata.Hook}: row {metadata.FirstTokenIndex + Rows + firstRow + (at / metadata.DModel)}, value {at % metadata.DModel}"
        );
        throw new StageFailedException(
            (
                float.IsFinite(value)
                    ? new Fault(
                        where,
                        value.ToString("R", CultureInfo.InvariantCulture),
                        string.Create(
                            CultureInfo.InvariantCulture,
                            $"a magnitude of at most {limit}, {Spelling.Of(dtype)}'s largest"
                        ),
                        "Set harvest `dtype: float32`"
                    )
                    : new Fault(
                        where,
                        value.ToString(CultureInfo.InvariantCulture),
                        "a finite number",
                        "Check the model's weights: the forward pass itself overflows, so `dtype: float32` does not help"
                    )
            ).ToString()
        );
    }

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
