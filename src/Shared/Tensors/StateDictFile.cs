using System.IO.Compression;
using System.IO.Hashing;
using Pipeline.Shared.Tensors.Pickle;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>
/// A state dict that torch.save wrote (<c>.pt</c>, <c>.bin</c>): a zip archive of a pickle, <c>data.pkl</c>, and one
/// uncompressed file a storage, <c>data/KEY</c>. The pickle is read as data: see <see cref="PickleReader"/>.
/// </summary>
public sealed class StateDictFile : ITensorFile
{
    private const long MaximumPickleBytes = 64 << 20;
    private const int ChunkBytes = 1 << 20;
    private const string Remedy =
        "Take a state dict saved by torch.save(model.state_dict(), path) with PyTorch 1.6 or newer, or safetensors";

    private readonly ZipArchive archive;
    private readonly string prefix;
    private readonly Dictionary<string, PickledTensor> tensors = new(StringComparer.Ordinal);

    private StateDictFile(string path, ZipArchive archive)
    {
        (Path, this.archive) = (path, archive);
        var pickle =
            archive.Entries.FirstOrDefault(entry => entry.FullName.Split('/') is [_, "data.pkl"])
            ?? throw Corrupt("file", "no data.pkl", "an archive of torch.save");
        prefix = pickle.FullName[..^"data.pkl".Length];
        RequireLittleEndian();
        Values = ReadPickle(pickle);
        foreach (var (name, value) in Values)
        {
            if (value is PickledTensor tensor)
            {
                RequireStorage(name, tensor.Storage);
                tensors.Add(name, tensor);
            }
        }
        Shapes = tensors.ToDictionary(pair => pair.Key, pair => pair.Value.Shape, StringComparer.Ordinal);
    }

    public string Path { get; }

    public IReadOnlyDictionary<string, long[]> Shapes { get; }

    /// <summary>
    /// Everything in the dict in its order: tensors as <see cref="PickledTensor"/>, others as string, long, double, bool,
    /// null, object?[], List&lt;object?&gt; or <see cref="PickledDictionary"/>.
    /// </summary>
    public PickledDictionary Values { get; }

    /// <summary>Whether a file begins as torch.save's zip archives do.</summary>
    public static bool Is(string path)
    {
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        Span<byte> begin = stackalloc byte[4];
        return stream.ReadAtLeast(begin, begin.Length, throwOnEndOfStream: false) == begin.Length
            && begin.SequenceEqual("PK\x03\x04"u8);
    }

    /// <exception cref="ConfigurationException">The file does not exist.</exception>
    /// <exception cref="CorruptArtifactException">No archive of torch.save, damaged, or one that holds more than data.</exception>
    public static StateDictFile Open(string path)
    {
        if (!File.Exists(path))
        {
            throw new ConfigurationException(
                new Fault(path, "no file", "a state dict (.pt, .bin)", "Check the path").ToString()
            );
        }
        var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read);
        try
        {
            return new StateDictFile(path, new ZipArchive(stream, ZipArchiveMode.Read));
        }
        catch (Exception e)
        {
            stream.Dispose();
            throw e switch
            {
                PipelineException => e,
                PickleRefusedException refused => new CorruptArtifactException(
                    new Fault($"{path}: data.pkl", refused.Found, refused.Expected, Remedy).ToString(),
                    e
                ),
                // A damaged archive makes the zip reader throw whatever the damaged bytes lead to.
                _ => new CorruptArtifactException(
                    new Fault(path, e.Message, "an undamaged archive of torch.save", Remedy).ToString(),
                    e
                ),
            };
        }
    }

    public Tensor Load(string name)
    {
        if (!tensors.TryGetValue(name, out var description))
        {
            throw Corrupt(
                $"tensor {name}",
                "no such tensor",
                "one of " + string.Join(", ", tensors.Keys.Order(StringComparer.Ordinal).Take(8))
            );
        }
        using var scope = NewDisposeScope();
        var storage = LoadStorage(name, description.Storage);
        var tensor = description.IsWholeStorage
            ? storage.reshape(description.Shape)
            : storage.as_strided(description.Shape, description.Strides, description.Offset).clone();
        return tensor.MoveToOuterDisposeScope();
    }

    public Tensor LoadFloat32(string name)
    {
        using var scope = NewDisposeScope();
        var tensor = Load(name);
        return tensor.is_floating_point()
            ? tensor.to(ScalarType.Float32).MoveToOuterDisposeScope()
            : throw Corrupt($"tensor {name}", $"{tensor.dtype}", "a floating-point type");
    }

    public void LoadFloat32Into(string name, Tensor target)
    {
        using var tensor = LoadFloat32(name);
        target.copy_(tensor);
    }

    public void Dispose() => archive.Dispose();

    private PickledDictionary ReadPickle(ZipArchiveEntry entry)
    {
        RequireStored(entry, "data.pkl");
        if (entry.Length > MaximumPickleBytes)
        {
            throw Corrupt("data.pkl", $"{entry.Length} bytes", $"at most {MaximumPickleBytes}");
        }
        byte[] bytes = new byte[entry.Length];
        using (var stream = entry.Open())
        {
            stream.ReadExactly(bytes);
        }
        RequireChecksum("data.pkl", Crc32.HashToUInt32(bytes), entry.Crc32);
        return PickleReader.Read(bytes) as PickledDictionary
            ?? throw Corrupt("data.pkl", "something else at its top", "a dictionary of tensors");
    }

    private Tensor LoadStorage(string name, PickledStorageReference storage)
    {
        var entry = archive.GetEntry($"{prefix}data/{storage.Key}")!;
        var tensor = empty([storage.Count], storage.Type);
        int itemBytes = (int)(storage.Count == 0 ? 1 : entry.Length / storage.Count);
        var crc = new Crc32();
        byte[] part = new byte[(int)Math.Min(ChunkBytes, entry.Length)];
        try
        {
            using var stream = entry.Open();
            for (long at = 0; at < entry.Length; at += part.Length)
            {
                int bytes = (int)Math.Min(part.Length, entry.Length - at);
                stream.ReadExactly(part, 0, bytes);
                crc.Append(part.AsSpan(0, bytes));
                using var scope = NewDisposeScope();
                var values = empty([bytes / itemBytes], storage.Type);
                values.bytes = part.AsSpan(0, bytes);
                tensor.narrow(0, at / itemBytes, bytes / itemBytes).copy_(values);
            }
        }
        catch (Exception e) when (e is InvalidDataException or IOException)
        {
            throw Corrupt($"tensor {name}", e.Message, $"{entry.Length} bytes");
        }
        RequireChecksum($"tensor {name}", crc.GetCurrentHashAsUInt32(), entry.Crc32);
        return tensor;
    }

    private void RequireStorage(string name, PickledStorageReference storage)
    {
        var entry =
            archive.GetEntry($"{prefix}data/{storage.Key}")
            ?? throw Corrupt($"tensor {name}", $"no data/{storage.Key}", "a file for each storage");
        RequireStored(entry, $"tensor {name}");
        SafetensorsDtype.TryGet(SafetensorsDtype.NameOf(storage.Type), out int itemBytes, out _);
        if (storage.Count > long.MaxValue / itemBytes || entry.Length != storage.Count * itemBytes)
        {
            throw Corrupt(
                $"tensor {name}",
                $"data/{storage.Key} of {entry.Length} bytes",
                $"{storage.Count} elements of {itemBytes} bytes"
            );
        }
    }

    /// <summary>torch.save never compresses: a compressed entry is foreign, and could unfold to any size.</summary>
    private void RequireStored(ZipArchiveEntry entry, string field)
    {
        if (entry.CompressedLength != entry.Length)
        {
            throw Corrupt(field, $"{entry.FullName} compressed", "uncompressed entries, as torch.save writes them");
        }
    }

    private void RequireLittleEndian()
    {
        if (archive.GetEntry($"{prefix}byteorder") is not { Length: < 16 } entry)
        {
            return; // older archives do not say; they are little-endian wherever PyTorch ran
        }
        using var reader = new StreamReader(entry.Open());
        string order = reader.ReadToEnd();
        if (order != "little")
        {
            throw Corrupt("byteorder", $"'{order}'", "'little'");
        }
    }

    private void RequireChecksum(string field, uint found, uint expected)
    {
        if (found != expected)
        {
            throw Corrupt(field, $"CRC-32 {found:x8}", $"{expected:x8}, as the archive's directory says");
        }
    }

    private CorruptArtifactException Corrupt(string field, string found, string expected) =>
        new(new Fault($"{Path}: {field}", found, expected, Remedy).ToString());
}
