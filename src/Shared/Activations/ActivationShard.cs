using System.Buffers;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using Apache.Arrow;
using Apache.Arrow.Ipc;
using Apache.Arrow.Types;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Activations;

/// <summary>A shard open for reading, mapped into memory: rows are widened to float32 as they are copied out.</summary>
public sealed class ActivationShard : IDisposable
{
    /// <summary>An Arrow file is the magic, padded to 8 bytes, and a stream; the stream reader maps without copying.</summary>
    private const int MagicBytes = 8;

    private readonly MappedFile file;
    private readonly List<RecordBatch> batches = [];
    private readonly List<int> firstRows = [];
    private readonly bool isHalf;

    private ActivationShard(string path, MappedFile file)
    {
        Path = path;
        this.file = file;
        using var reader = new ArrowStreamReader(file.Memory[MagicBytes..]);
        var type = Require<FixedSizeListType>(path, reader.Schema, "activation");
        Require<Int32Type>(path, reader.Schema, "token");
        Require<Int32Type>(path, reader.Schema, "document");
        Require<Int32Type>(path, reader.Schema, "position");
        Width = type.ListSize;
        isHalf = type.ValueDataType is HalfFloatType;
        Metadata = new Dictionary<string, string>(reader.Schema.Metadata ?? new Dictionary<string, string>());
        while (reader.ReadNextRecordBatch() is { } batch)
        {
            firstRows.Add(Rows);
            batches.Add(batch);
            Rows += batch.Length;
        }
    }

    public string Path { get; }

    public int Rows { get; }

    /// <summary>d, the width of an activation.</summary>
    public int Width { get; }

    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <exception cref="CorruptArtifactException">Not a shard.</exception>
    public static ActivationShard Open(string path)
    {
        var file = new MappedFile(path);
        try
        {
            return new ActivationShard(path, file);
        }
        catch (Exception e) when (e is not OutOfMemoryException and not CorruptArtifactException)
        {
            ((IDisposable)file).Dispose();
            throw new CorruptArtifactException(
                new Fault(path, e.Message, "an Arrow file of activations", "Run the harvest again").ToString(),
                e
            );
        }
    }

    /// <summary>Copies consecutive rows, widened to float32, row-major.</summary>
    public void CopyRows(int firstRow, int count, Span<float> destination)
    {
        while (count > 0)
        {
            int batch = BatchOf(firstRow);
            int offset = firstRow - firstRows[batch];
            int rows = Math.Min(count, batches[batch].Length - offset);
            Copy(batches[batch], offset * Width, destination[..(rows * Width)]);
            destination = destination[(rows * Width)..];
            firstRow += rows;
            count -= rows;
        }
    }

    /// <summary>The values of an int32 column (token, document or position).</summary>
    public int[] Column(string name)
    {
        var values = new int[Rows];
        for (int i = 0; i < batches.Count; i++)
        {
            ((Int32Array)batches[i].Column(name)).Values.CopyTo(values.AsSpan(firstRows[i]));
        }
        return values;
    }

    public void Dispose()
    {
        batches.ForEach(batch => batch.Dispose());
        ((IDisposable)file).Dispose();
    }

    private void Copy(RecordBatch batch, int offset, Span<float> destination)
    {
        var values = ((FixedSizeListArray)batch.Column("activation")).Values;
        if (isHalf)
        {
            var halves = MemoryMarshal.Cast<byte, Half>(((HalfFloatArray)values).ValueBuffer.Span);
            TensorPrimitives.ConvertToSingle(halves.Slice(offset, destination.Length), destination);
        }
        else
        {
            ((FloatArray)values).Values.Slice(offset, destination.Length).CopyTo(destination);
        }
    }

    private int BatchOf(int row)
    {
        int found = firstRows.BinarySearch(row);
        return found >= 0 ? found : ~found - 1;
    }

    private static T Require<T>(string path, Schema schema, string column)
        where T : class, IArrowType =>
        schema.GetFieldByName(column)?.DataType as T
        ?? throw new CorruptArtifactException(
            new Fault(
                path,
                $"no column '{column}' of {typeof(T).Name}",
                "a shard of activations",
                "Run the harvest again"
            ).ToString()
        );

    /// <summary>A whole file as memory, without a copy.</summary>
    private sealed unsafe class MappedFile : MemoryManager<byte>
    {
        private readonly MemoryMappedFile map;
        private readonly MemoryMappedViewAccessor view;
        private readonly byte* pointer;
        private readonly int length;

        public MappedFile(string path)
        {
            long bytes = new FileInfo(path).Length;
            if (bytes is < 16 or > int.MaxValue)
            {
                throw new CorruptArtifactException(
                    new Fault(path, $"{bytes} bytes", "16 bytes to 2 GiB", "Run the harvest again").ToString()
                );
            }
            length = (int)bytes;
            map = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            view = map.CreateViewAccessor(0, 0, MemoryMappedFileAccess.Read);
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref pointer);
        }

        public override Span<byte> GetSpan() => new(pointer, length);

        public override MemoryHandle Pin(int elementIndex = 0) => new(pointer + elementIndex);

        public override void Unpin() { }

        protected override void Dispose(bool disposing)
        {
            view.SafeMemoryMappedViewHandle.ReleasePointer();
            view.Dispose();
            map.Dispose();
        }
    }
}
