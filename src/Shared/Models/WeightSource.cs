using System.Text.Json;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>A model folder's weights by tensor name, over one safetensors file or the shards its index lists.</summary>
public sealed class WeightSource : IDisposable
{
    private readonly List<SafetensorsFile> files = [];
    private readonly Dictionary<string, SafetensorsFile> fileOf = new(StringComparer.Ordinal);

    private readonly Device device;

    private WeightSource(string folder, Device device)
    {
        Folder = folder;
        this.device = device;
    }

    public string Folder { get; }

    /// <summary>The weight files of a folder, without opening them: the single file, or the shards in index order.</summary>
    public static IReadOnlyList<string> Files(string folder)
    {
        string single = Path.Combine(folder, "model.safetensors");
        string index = single + ".index.json";
        if (File.Exists(single))
        {
            return [single];
        }
        if (!File.Exists(index))
        {
            throw new ConfigurationException(
                new Fault(
                    folder,
                    "neither model.safetensors nor model.safetensors.index.json",
                    "a Hugging Face model folder with safetensors weights",
                    "Download the safetensors files of this model into the folder"
                ).ToString()
            );
        }
        return [.. ReadIndex(index).Values.Distinct(StringComparer.Ordinal).Select(file => Path.Combine(folder, file))];
    }

    /// <summary>Opens all weight files; tensors load onto <paramref name="device"/>.</summary>
    public static WeightSource Open(string folder, Device device)
    {
        var source = new WeightSource(folder, device);
        try
        {
            foreach (string path in Files(folder))
            {
                var file = SafetensorsFile.Open(path);
                source.files.Add(file);
                foreach (string name in file.Entries.Keys)
                {
                    source.fileOf[name] = file;
                }
            }
            return source;
        }
        catch
        {
            source.Dispose();
            throw;
        }
    }

    public bool Has(string name) => fileOf.ContainsKey(name);

    /// <summary>The tensor as float32; its shape must be the given one.</summary>
    public Tensor Load(string name, params long[] shape)
    {
        if (!fileOf.TryGetValue(name, out var file))
        {
            throw new CorruptArtifactException(
                new Fault(
                    $"{Folder}: tensor {name}",
                    "no such tensor in the weight files",
                    $"shape [{string.Join(", ", shape)}], as config.json implies",
                    "Take config.json and weights of the same model"
                ).ToString()
            );
        }
        long[] found = file.Entries[name].Shape;
        if (!found.AsSpan().SequenceEqual(shape))
        {
            throw new CorruptArtifactException(
                new Fault(
                    $"{file.Path}: tensor {name}",
                    $"shape [{string.Join(", ", found)}]",
                    $"[{string.Join(", ", shape)}], as config.json implies",
                    "Take config.json and weights of the same model"
                ).ToString()
            );
        }
        var loaded = file.LoadFloat32(name);
        if (device.type == DeviceType.CPU)
        {
            return loaded;
        }
        using (loaded)
        {
            return loaded.to(device);
        }
    }

    public void Dispose() => files.ForEach(file => file.Dispose());

    private static SortedDictionary<string, string> ReadIndex(string path)
    {
        const string Remedy = "Download the index again";
        var map = new SortedDictionary<string, string>(StringComparer.Ordinal);
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(path));
            foreach (var entry in document.RootElement.GetProperty("weight_map").EnumerateObject())
            {
                string file = entry.Value.GetString() ?? "";
                if (file != Path.GetFileName(file) || file is "" or "." or "..")
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
