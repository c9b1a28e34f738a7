using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Tests.Pipelines;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>
/// What a process takes that loads five blocks of GPT-2's shape, as one file, in a narrower type, as shards and as a state dict.
/// <c>PIPELINE_GPT2=1</c> asks for the shape of all of GPT-2, 498 MB of float32.
/// </summary>
[Collection(MeasuresMemory.Name)]
public sealed class LoadingMemoryTests : IDisposable
{
    private static readonly (int Layers, int Vocabulary) Shape =
        Environment.GetEnvironmentVariable("PIPELINE_GPT2") == "1" ? (12, 50_257) : (5, 4_096);

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("model.safetensors", 1, ScalarType.Float32)]
    [InlineData("model.safetensors", 1, ScalarType.BFloat16)]
    [InlineData("model.safetensors", 1, ScalarType.Float16)]
    [InlineData("model.safetensors", 3, ScalarType.Float32)]
    [InlineData("pytorch_model.bin", 1, ScalarType.Float32)]
    public void Loading_takes_little_beside_the_model(string file, int shards, ScalarType type)
    {
        double megabytes = Generate(file, shards, type) / 1048576.0; // as peak_rss_mb counts
        string text = folder.Write("text.txt", "A river runs through the town and leaves it by the mill.");

        var plain = Stopwatch.StartNew();
        foreach (string path in WeightSource.Files(folder.Path))
        {
            ReadThrough(path);
        }
        plain.Stop();
        var loading = Stopwatch.StartNew();
        using (ModelFolder.Open(folder.Path).Load())
        {
            loading.Stop();
        }
        var score = SaeProcess.Run("score", folder.Path, text, "--json");

        score.ExitCode.Should().Be(0, score.Error);
        double peak = JsonNode.Parse(score.Output)!["peak_rss_mb"]!.GetValue<double>();
        TestContext.Current.SendDiagnosticMessage(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{shards} {file}, {type}, {megabytes:F0} MB: peak {peak:F0} MB; loaded in {loading.Elapsed.TotalSeconds:F2} s, read in {plain.Elapsed.TotalSeconds:F2} s"
            )
        );
        peak.Should().BeInRange(megabytes, (1.15 * megabytes) + 300);
    }

    [Fact]
    public void The_memory_of_a_tensor_is_given_back_with_it_and_not_when_the_garbage_collector_comes_by()
    {
        const int Rows = 16_384; // 64 MB
        string path = folder["a.safetensors"];
        using (var stream = new FileStream(path, FileMode.Create))
        {
            using var stored = ones(Rows, 1024);
            SafetensorsWriter.Write(stream, [("a", stored)]);
        }
        using var source = WeightSource.Of(SafetensorsFile.Open(path), "the test", CPU);
        source.LoadTransposed("a", Rows, 1024).Dispose(); // takes the memory that others of another order get again
        long before = Environment.WorkingSet;

        for (int i = 0; i < 6; i++)
        {
            source.Load("a", Rows, 1024).Dispose();
            source.LoadJoined([("a", Rows)], 1024).Dispose();
            source.LoadTransposed("a", Rows, 1024).Dispose();
        }

        // 18 tensors of 64 MB; one of them may wait in the allocator.
        (Environment.WorkingSet - before)
            .Should()
            .BeLessThan(128 << 20);
    }

    /// <summary>Returns the bytes of the weights in memory, where they are float32.</summary>
    private long Generate(string file, int shards, ScalarType type)
    {
        string shipped = Path.Combine(TestData.RepositoryRoot, "data", "models", "wiki-6l");
        foreach (string name in new[] { "vocab.json", "merges.txt" })
        {
            File.Copy(Path.Combine(shipped, name), folder[name]);
        }
        var family = new Gpt2Family();
        var config = Config();
        using var scope = NewDisposeScope();
        using var model = new Transformer(config, TransformerInitialization.Random(config, 1));
        var tensors = family
            .Save(model.Weights, config)
            .Select(tensor => (tensor.Name, Value: tensor.Value.to(type)))
            .ToList();
        folder.Write("config.json", family.WriteConfig(config).ToJsonString());
        var map = new JsonObject();
        for (int shard = 0; shard < shards; shard++)
        {
            string name = shards == 1 ? file : $"model-0000{shard + 1}-of-0000{shards}.safetensors";
            var part = tensors.Where((_, i) => i % shards == shard).ToList();
            part.ForEach(tensor => map[tensor.Name] = name);
            using var stream = new FileStream(folder[name], FileMode.Create);
            if (file.EndsWith(".bin", StringComparison.Ordinal))
            {
                StateDictWriter.Write(
                    stream,
                    "archive",
                    [.. part.Select(tensor => (tensor.Name, (object)tensor.Value))]
                );
                continue;
            }
            SafetensorsWriter.Write(stream, part);
        }
        if (shards > 1)
        {
            folder.Write("model.safetensors.index.json", new JsonObject { ["weight_map"] = map }.ToJsonString());
        }
        return tensors.Sum(tensor => tensor.Value.numel() * sizeof(float));
    }

    private static TransformerConfig Config() =>
        new()
        {
            Family = "gpt2",
            Vocabulary = Shape.Vocabulary,
            Width = 768,
            Layers = Shape.Layers,
            Heads = 12,
            KeyValueHeads = 12,
            HeadWidth = 64,
            MlpWidth = 4 * 768,
            Context = 1024,
            Norm = NormKind.LayerNorm,
            NormEpsilon = 1e-5,
            Activation = ActivationKind.GeluTanh,
            GatedMlp = false,
            QkvBias = true,
            AttentionOutBias = true,
            MlpBias = true,
            TiedEmbeddings = true,
        };

    private static void ReadThrough(string path)
    {
        byte[] part = new byte[4 << 20];
        using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
        while (stream.Read(part) > 0) { }
    }
}
