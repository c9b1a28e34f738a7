using System.Runtime.InteropServices;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Apache.Arrow.Types;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Activations;

/// <summary>
/// Writes one Arrow IPC file: columns token, document, position (int32) and activation (FixedSizeList of d float32 or
/// float16), one record batch an <see cref="Append"/>. Nothing appears under its name before <see cref="Commit"/>.
/// </summary>
public sealed class ActivationShardWriter : IDisposable
{
    private readonly PendingFile file;
    private readonly ArrowFileWriter writer;
    private readonly Schema schema;
    private readonly int width;
    private readonly ActivationDtype dtype;
    private readonly string hook;

    public ActivationShardWriter(string path, int width, ActivationDtype dtype, ShardMetadata metadata)
    {
        (this.width, this.dtype, hook) = (width, dtype, metadata.Hook);
        IArrowType valueType = dtype == ActivationDtype.Float16 ? HalfFloatType.Default : FloatType.Default;
        var activation = new FixedSizeListType(new Field("item", valueType, nullable: false), width);
        schema = new Schema(
            [
                new Field("token", Int32Type.Default, nullable: false),
                new Field("document", Int32Type.Default, nullable: false),
                new Field("position", Int32Type.Default, nullable: false),
                new Field("activation", activation, nullable: false),
            ],
            metadata.ToDictionary()
        );
        file = AtomicFile.Begin(path);
        writer = new ArrowFileWriter(file.Stream, schema, leaveOpen: true);
        writer.WriteStart();
    }

    /// <summary>Rows appended so far.</summary>
    public long Rows { get; private set; }

    /// <param name="tokens">Ids, one a row.</param>
    /// <param name="documents">Index of the document each token is from.</param>
    /// <param name="positions">Position of each token in its document.</param>
    /// <param name="activations">Row-major [rows, d].</param>
    /// <exception cref="StageFailedException">A value that is not finite, or beyond float16's range.</exception>
    public void Append(
        ReadOnlySpan<int> tokens,
        ReadOnlySpan<int> documents,
        ReadOnlySpan<int> positions,
        ReadOnlySpan<float> activations
    )
    {
        int rows = tokens.Length;
        ArgumentOutOfRangeException.ThrowIfNotEqual(activations.Length, rows * width);
        RequireStorable(activations);
        IArrowArray values = dtype == ActivationDtype.Float16 ? Halves(activations) : Floats(activations);
        var listType = schema.GetFieldByName("activation").DataType;
        using var batch = new RecordBatch(
            schema,
            [
                Ints(tokens),
                Ints(documents),
                Ints(positions),
                new FixedSizeListArray(listType, rows, values, ArrowBuffer.Empty, nullCount: 0),
            ],
            rows
        );
        writer.WriteRecordBatch(batch);
        Rows += rows;
    }

    public FileDigest Commit()
    {
        writer.WriteEnd();
        return file.Commit();
    }

    public void Dispose()
    {
        writer.Dispose();
        file.Dispose();
    }

    private void RequireStorable(ReadOnlySpan<float> activations)
    {
        float largest = TensorPrimitives.MaxMagnitude(activations); // NaN if any is
        if (!float.IsFinite(largest))
        {
            throw new StageFailedException(
                new Fault(
                    $"harvest: {hook}",
                    $"an activation of {largest}",
                    "finite activations",
                    "Check the model's weights: its forward pass overflows on this text"
                ).ToString()
            );
        }
        if (dtype == ActivationDtype.Float16 && largest > (float)Half.MaxValue)
        {
            throw new StageFailedException(
                new Fault(
                    $"harvest: {hook}",
                    $"an activation of {largest}",
                    $"at most {Half.MaxValue}, the largest float16",
                    "Set harvest.dtype: float32"
                ).ToString()
            );
        }
    }

    private static Int32Array Ints(ReadOnlySpan<int> values) =>
        new(Copy(MemoryMarshal.AsBytes(values)), ArrowBuffer.Empty, values.Length, 0, 0);

    private static FloatArray Floats(ReadOnlySpan<float> values) =>
        new(Copy(MemoryMarshal.AsBytes(values)), ArrowBuffer.Empty, values.Length, 0, 0);

    private static HalfFloatArray Halves(ReadOnlySpan<float> values)
    {
        var bytes = new byte[values.Length * 2];
        TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(bytes.AsSpan()));
        return new HalfFloatArray(new ArrowBuffer(bytes), ArrowBuffer.Empty, values.Length, 0, 0);
    }

    private static ArrowBuffer Copy(ReadOnlySpan<byte> bytes) => new(bytes.ToArray());
}
