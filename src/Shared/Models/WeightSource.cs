using System.Text.Json;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>A model folder's weights by tensor name, over one weight file or the shards its index lists: safetensors,
/// else the state dicts older models have.</summary>
public sealed class WeightSource : IDisposable
{
    private const string Safetensors = "model.safetensors";
    private const string StateDict = "pytorch_model.bin";

    private readonly List<ITensorFile> files = [];
    private readonly Dictionary<string, ITensorFile> fileOf = new(StringComparer.Ordinal);

    private readonly string impliedBy;
    private readonly Device device;
    private Tensor? scratch;

    private WeightSource(string path, string impliedBy, Device device)
    {
        Path = path;
        this.impliedBy = impliedBy;
        this.device = device;
    }

    /// <summary>The model's folder, or its one file.</summary>
    public string Path { get; }

    public IReadOnlyCollection<string> Names => fileOf.Keys;

    /// <summary>The weight files of a folder, without opening them: the single file, or the shards in index order.</summary>
    public static IReadOnlyList<string> Files(string folder)
    {
        foreach (string name in (ReadOnlySpan<string>)[Safetensors, StateDict])
        {
            string single = System.IO.Path.Combine(folder, name);
            string index = single + ".index.json";
            if (File.Exists(single))
            {
                return [single];
            }
            if (File.Exists(index))
            {
                var shards = ReadIndex(index).Values.Distinct(StringComparer.Ordinal);
                return [.. shards.Select(file => System.IO.Path.Combine(folder, file))];
            }
        }
        throw new ConfigurationException(
            new Fault(
                folder,
                $"neither {Safetensors} nor {StateDict}, nor an index of either",
                "a Hugging Face model folder with its weights",
                "Download the safetensors files of this model into the folder"
            ).ToString()
        );
    }

    /// <summary>Opens all weight files; tensors load onto <paramref name="device"/>.</summary>
    public static WeightSource Open(string folder, Device device)
    {
        var source = new WeightSource(folder, "config.json", device);
        try
        {
            foreach (string path in Files(folder))
            {
                source.Add(
                    path.EndsWith(".safetensors", StringComparison.Ordinal)
                        ? SafetensorsFile.Open(path)
                        : StateDictFile.Open(path)
                );
            }
            return source;
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    /// <summary>A single file, which is closed with the source.</summary>
    /// <param name="file">The file.</param>
    /// <param name="impliedBy">What the shapes follow from, for messages.</param>
    /// <param name="device">Where tensors load.</param>
    public static WeightSource Of(ITensorFile file, string impliedBy, Device device)
    {
        ArgumentNullException.ThrowIfNull(file);
        var source = new WeightSource(file.Path, impliedBy, device);
        source.Add(file);
        return source;
    }

    public bool Has(string name) => fileOf.ContainsKey(name);

    /// <summary>The tensor as float32; its shape must be the given one.</summary>
    public Tensor Load(string name, params long[] shape) => OnDevice(Find(name, shape).LoadFloat32(name));

    /// <summary>Several tensors of the given widths one after another, each read into its place.</summary>
    /// <param name="names">The tensors, with the size of each one's first axis.</param>
    /// <param name="rest">The other axes, which are alike.</param>
    public Tensor LoadJoined(IReadOnlyList<(string Name, long Outputs)> names, params long[] rest)
    {
        ArgumentNullException.ThrowIfNull(names);
        // Before the memory is taken, whose size may be a damaged configuration's.
        ITensorFile[] files = [.. names.Select(part => Find(part.Name, [part.Outputs, .. rest]))];
        var joined = empty([names.Sum(part => part.Outputs), .. rest]);
        long from = 0;
        foreach (var ((name, outputs), file) in names.Zip(files))
        {
            using var part = joined.narrow(0, from, outputs);
            file.LoadFloat32Into(name, part);
            from += outputs;
        }
        return OnDevice(joined);
    }

    /// <summary>A matrix that is stored [in, out], as [out, in].</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="inputs">Rows on disk.</param>
    /// <param name="outputs">Rows that it gets.</param>
    public unsafe Tensor LoadTransposed(string name, long inputs, long outputs)
    {
        using var scope = NewDisposeScope();
        float* from = CpuKernels.Floats(ReadScratch(name, [inputs, outputs]));
        var target = empty(outputs, inputs);
        TransposeKernel.Transpose(from, inputs, outputs, CpuKernels.Floats(target), get_num_threads());
        return OnDevice(target).MoveToOuterDisposeScope();
    }

    /// <summary>A tensor that is stored in another order than it is kept in.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="stored">Its shape on disk.</param>
    /// <param name="order">A view of it in the wanted order.</param>
    /// <param name="kept">The shape it gets.</param>
    public Tensor LoadReordered(string name, long[] stored, Func<Tensor, Tensor> order, params long[] kept)
    {
        ArgumentNullException.ThrowIfNull(stored);
        ArgumentNullException.ThrowIfNull(order);
        using var scope = NewDisposeScope();
        var ordered = order(ReadScratch(name, stored));
        var target = empty(kept);
        target.view(ordered.shape).copy_(ordered);
        return OnDevice(target).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// A tensor as it is stored, in a memory that all tensors of another order take in turn: one of its own for each leaves
    /// holes behind that together take as much as the model.
    /// </summary>
    private Tensor ReadScratch(string name, long[] stored)
    {
        var file = Find(name, stored);
        var read = Scratch(stored.Aggregate(1L, (product, size) => product * size)).view(stored);
        file.LoadFloat32Into(name, read);
        return read;
    }

    private Tensor Scratch(long count)
    {
        if (scratch is null || scratch.numel() < count)
        {
            scratch?.Dispose();
            scratch = empty(count).DetachFromDisposeScope();
        }
        return scratch.narrow(0, 0, count);
    }

    /// <summary>The file that has the tensor, whose shape must be the given one.</summary>
    private ITensorFile Find(string name, long[] shape)
    {
        if (!fileOf.TryGetValue(name, out var file))
        {
            throw new CorruptArtifactException(
                new Fault(
                    $"{Path}: tensor {name}",
                    "no such tensor in the weight files",
                    $"shape [{string.Join(", ", shape)}], as {impliedBy} implies",
                    "Take configuration and weights of the same model"
                ).ToString()
            );
        }
        file.RequireShape(name, impliedBy, shape);
        return file;
    }

    private void Add(ITensorFile file)
    {
        files.Add(file);
        foreach (string name in file.Shapes.Keys)
        {
            fileOf[name] = file;
        }
    }

    private Tensor OnDevice(Tensor loaded)
    {
        if (device.type == DeviceType.CPU)
        {
            return loaded;
        }
        using (loaded)
        {
            return loaded.to(device);
        }
    }

    public void Dispose()
    {
        scratch?.Dispose();
        files.ForEach(file => file.Dispose());
    }

    private static SortedDictionary<string, string> ReadIndex(string path)
    {
        const string Remedy = "Download the index again";
        var map = new SortedDictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using var document = StrictJson.Parse(ForeignFile.ReadBytes(path));
            foreach (var entry in document.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                string file = entry.Value.GetString() ?? "";
                if (file.Contains('/', StringComparison.Ordinal) || !ArtifactPath.TryResolve(".", file, out _))
                {
                    throw new CorruptArtifactException(
                        new Fault(
                            $"{path}: weight_map.{entry.Name}",
                            $"'{file}'",
                            "a file name in this folder",
                            Remedy
                        ).ToString()
                    );
                }
                map[entry.Name] = file;
            }
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
        {
            throw new CorruptArtifactException(
                new Fault(path, e.Message, "{\"weight_map\": {tensor: file}}", Remedy).ToString(),
                e
            );
        }
        return map;
    }
}
