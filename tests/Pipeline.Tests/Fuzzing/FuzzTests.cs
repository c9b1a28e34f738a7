using System.Diagnostics;
using System.Globalization;
using System.Text;
using Parquet;
using Pipeline.Shared;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Activations;
using Pipeline.Tests.Models;
using Pipeline.Tests.Pipelines;
using Pipeline.Tests.Text;
using static TorchSharp.torch;

namespace Pipeline.Tests.Fuzzing;

/// <summary>
/// Parsers of foreign files are total: any bytes give a parse or a typed error, within 2 s and 512 MB. <c>PIPELINE_FUZZ=N</c>
/// asks for N mutants a parser (2,000 without it).
/// </summary>
[Collection(MeasuresMemory.Name)]
public sealed class FuzzTests : IClassFixture<TinyRun>, IDisposable
{
    private const long MostBytes = 512L << 20;
    private static readonly TimeSpan Longest = TimeSpan.FromSeconds(2);

    private static readonly int Mutants = int.TryParse(
        Environment.GetEnvironmentVariable("PIPELINE_FUZZ"),
        CultureInfo.InvariantCulture,
        out int wanted
    )
        ? wanted
        : 2000;

    private readonly TinyRun tiny;
    private readonly TempFolder folder = new();

    public FuzzTests(TinyRun tiny) => this.tiny = tiny;

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Safetensors()
    {
        var corpus = Files("saes", "*.safetensors");
        Fuzz(
            corpus,
            "weights.safetensors",
            path =>
            {
                using var file = SafetensorsFile.Open(path);
                file.Shapes.Keys.ToList().ForEach(name => file.Load(name));
            }
        );
    }

    [Fact]
    public void State_dicts() =>
        Fuzz(
            Files("saes", "*.pt"),
            "weights.pt",
            path =>
            {
                using var file = StateDictFile.Open(path);
                file.Shapes.Keys.ToList().ForEach(name => file.Load(name));
            }
        );

    /// <summary>The pickle alone, its checksum set right, so that mutants get past the archive.</summary>
    [Fact]
    public void Pickles()
    {
        var pickles = Files("saes", "*.pt").Select(Pickle).ToList();
        Fuzz(
            pickles,
            "data.pkl",
            path =>
            {
                try
                {
                    Shared.Tensors.Pickle.PickleReader.Read(File.ReadAllBytes(path));
                }
                catch (Shared.Tensors.Pickle.PickleRefusedException e)
                {
                    throw new CorruptArtifactException(e.Message, e);
                }
            }
        );
    }

    [Fact]
    public void Tokenizer_vocabularies()
    {
        string merges = File.ReadAllText(Path.Combine(tiny.Model, "merges.txt"));
        folder.Write("merges.txt", merges);
        Fuzz([Bytes("vocab.json")], "vocab.json", path => UseTokenizer());
    }

    [Fact]
    public void Tokenizer_merges()
    {
        folder.Write("vocab.json", File.ReadAllText(Path.Combine(tiny.Model, "vocab.json")));
        Fuzz([Bytes("merges.txt")], "merges.txt", path => UseTokenizer());
    }

    [Fact]
    public void Tokenizer_json() => Fuzz([TokenizerJson()], "tokenizer.json", path => UseTokenizer());

    [Fact]
    public void SentencePiece_models() =>
        Fuzz(
            [File.ReadAllBytes(TestData.Require("data", "models", "stories260k-hf", "tokenizer.model"))],
            "tokenizer.model",
            path => UseTokenizer()
        );

    [Fact]
    public void Llama2c_tokenizers() =>
        Fuzz(
            [File.ReadAllBytes(TestData.Require("data", "models", "stories260k", "tok512.bin"))],
            "tok512.bin",
            path => UseTokenizer()
        );

    [Fact]
    public void Llama2c_models() =>
        Fuzz(
            [
                Llama2cFiles.Write(0, tied: true),
                Llama2cFiles.Write(0, tied: false),
                Llama2cFiles.Write(1, tied: true),
                Llama2cFiles.Write(1, tied: false),
            ],
            "model.bin",
            path =>
            {
                using var model = ModelFolder.Open(path).Load();
            }
        );

    [Fact]
    public void TransformerLens_settings()
    {
        string model = TestData.Require("data", "models", "tiny_gpt2_e2e");
        File.Copy(Path.Combine(model, "epoch_1.pt"), folder["epoch_1.pt"]);
        Fuzz(
            [File.ReadAllBytes(Path.Combine(model, TransformerLensFamily.SettingsFile))],
            TransformerLensFamily.SettingsFile,
            path => ModelFolder.Open(folder.Path)
        );
    }

    [Fact]
    public void Special_tokens()
    {
        folder.Write("vocab.json", File.ReadAllText(Path.Combine(tiny.Model, "vocab.json")));
        folder.Write("merges.txt", File.ReadAllText(Path.Combine(tiny.Model, "merges.txt")));
        Fuzz([Bytes("tokenizer_config.json")], "tokenizer_config.json", path => UseTokenizer());
    }

    [Fact]
    public void Model_configurations()
    {
        string models = TestData.Require("golden", "models");
        var corpus = Directory
            .EnumerateFiles(models, "config.json", SearchOption.AllDirectories)
            .Order(StringComparer.Ordinal)
            .Select(File.ReadAllBytes)
            .ToList();
        Fuzz(corpus, "config.json", path => ModelFolder.Open(folder.Path));
    }

    [Fact]
    public void Weight_indices()
    {
        string index = """
            {"metadata": {"total_size": 123}, "weight_map": {"a.weight": "model-00001-of-00002.safetensors",
             "b.weight": "model-00002-of-00002.safetensors"}}
            """;
        Fuzz([Encoding.UTF8.GetBytes(index)], "model.safetensors.index.json", path => WeightSource.Files(folder.Path));
    }

    [Fact]
    public void Pipelines_in_YAML()
    {
        string pipelines = Path.Combine(TestData.RepositoryRoot, "pipelines");
        var corpus = Directory
            .EnumerateFiles(pipelines, "*.yaml")
            .Append(tiny.Pipeline)
            .Order(StringComparer.Ordinal)
            .Select(File.ReadAllBytes)
            .ToList();
        Fuzz(corpus, "pipeline.yaml", path => YamlConfiguration.Load<PipelineConfig>(path));
    }

    [Theory]
    [InlineData(ActivationDtype.Float16)]
    [InlineData(ActivationDtype.Int8)]
    public void Arrow_shards_without_their_hash(ActivationDtype dtype)
    {
        Shards.Write(folder["original.arrow"], dtype, Shards.Metadata(3), Shards.Values(40, 3));
        Fuzz(
            [File.ReadAllBytes(folder["original.arrow"])],
            "shard.arrow",
            path =>
            {
                using var shard = ActivationShard.Open(path);
                shard.CopyRows(0, Math.Min(shard.Rows, 1000), new float[Math.Min(shard.Rows, 1000) * shard.Width]);
                _ = shard.Tokens.Length + shard.Documents.Length + shard.Positions.Length;
            }
        );
    }

    [Fact]
    public void Manifests()
    {
        string stage = folder["stage"];
        Manifest.Write(stage, Manifest.Create("train", [], [], [new ManifestOutput("a", 1, "b")]));
        Fuzz(
            [File.ReadAllBytes(Path.Combine(stage, Manifest.FileName))],
            Manifest.FileName,
            path => Manifest.TryRead(folder.Path)?.Verify(folder.Path, rehash: true)
        );
    }

    [Theory]
    [InlineData("saelens/topk", "cfg.json")]
    [InlineData("dictionary_learning/matryoshka", "config.json")]
    [InlineData("sparsify/layers.3", "cfg.json")]
    public void SAE_configurations(string sae, string name)
    {
        string original = TestData.Require(["data", "saes", .. sae.Split('/')]);
        foreach (string file in Directory.EnumerateFiles(original))
        {
            TempFolder.Overwrite(folder[Path.GetFileName(file)], File.ReadAllBytes(file));
        }
        Fuzz(
            [File.ReadAllBytes(Path.Combine(original, name))],
            name,
            path => SaeFormats.Of(folder.Path).Load(folder.Path).Dispose()
        );
    }

    [Theory]
    [InlineData("text.jsonl", "{\"id\": 1, \"title\": \"A\", \"text\": \"One.\"}\n{\"text\": \"Two é \\u00e9.\"}\n")]
    [InlineData("text.json", "[{\"id\": \"1\", \"title\": \"A\", \"text\": \"One.\"}, {\"text\": \"Two.\"}]")]
    [InlineData(
        "wiki_00",
        "<doc id=\"1\" url=\"u\" title=\"A &amp; B\">\nA & B\n\nText é.\n</doc>\n<doc id=\"2\" title=\"C\">\nC\n</doc>\n"
    )]
    [InlineData("wiki.test.raw", " = A = \n\n Text . \n = = B = = \n more \n = C = \n x \n")]
    [InlineData("plain.txt", "One.\n\nTwo é.\n")]
    [InlineData(
        "wiki-001.jsonl",
        "{\"id\": \"A_-LRB-b-RRB-\", \"lines\": \"0\\tOne -LSB- .\\tlink\\n1\\t\"}\n{\"id\": \"C\", \"lines\": \"0\\t\"}\n"
    )]
    [InlineData(
        "dump.xml",
        "<mediawiki><siteinfo><namespaces><namespace key=\"6\">File</namespace></namespaces></siteinfo>\n<page><title>A &amp; B"
            + "</title><ns>0</ns><id>1</id><revision><id>2</id><text xml:space=\"preserve\">'''A''' {{b|{{{c}}}}} [[d|e]] [http://f g] "
            + "&lt;ref name=x&gt;h&lt;/ref&gt; ({{i}}; j)\n== k ==\n{|\n| l\n|}\n* m</text></revision></page></mediawiki>"
    )]
    public void Texts(string name, string text) => Fuzz([Encoding.UTF8.GetBytes(text)], name, ReadTexts);

    [Theory]
    [InlineData(".gz")]
    [InlineData(".bz2")]
    [InlineData(".zst")]
    public void Compressed_texts(string ending)
    {
        string text = string.Concat(
            Enumerable.Range(0, 50).Select(i => $"{{\"id\": {i}, \"text\": \"Text {i * 7919}.\"}}\n")
        );
        byte[] whole = TextFiles.Compress(text, ending);
        Fuzz([whole, [.. whole, .. TextFiles.Compress("{\"text\": \"é\"}", ending)]], "text.jsonl" + ending, ReadTexts);
    }

    [Fact]
    public void Parquet_texts()
    {
        var corpus = new List<byte[]>();
        foreach (var compression in new[] { CompressionMethod.None, CompressionMethod.Snappy, CompressionMethod.Zstd })
        {
            Document[] rows =
            [
                .. Enumerable.Range(0, 20).Select(i => new Document($"{i}", "Same", $"Text {i * 7919} é")),
            ];
            TextFiles.WriteParquet(folder["seed.parquet"], rows, compression, rowGroup: 8);
            corpus.Add(File.ReadAllBytes(folder["seed.parquet"]));
        }
        Fuzz(corpus, "text.parquet", ReadTexts);
    }

    private static void ReadTexts(string path)
    {
        foreach (var document in TextSources.Open(path, "text").Read())
        {
            _ = document.Text.Length;
        }
    }

    private void Fuzz(IReadOnlyList<byte[]> corpus, string name, Action<string> parse)
    {
        string path = folder[name];
        var mutator = new Mutator((ulong)name.Length + 7, corpus);
        long rssBefore = PeakRss();
        TimeSpan slowest = default;
        int parsed = 0;
        for (int i = 0; i < Mutants; i++)
        {
            byte[] mutant = mutator.Next();
            TempFolder.Overwrite(path, mutant);
            var (outcome, time) = Try(parse, path);
            if (time > Longest)
            {
                (outcome, time) = Try(parse, path); // once more: the machine may have been busy
            }
            slowest = time > slowest ? time : slowest;
            parsed += outcome is null ? 1 : 0;
            if (outcome is not (null or PipelineException) || time > Longest)
            {
                string kept = Path.Combine(Path.GetTempPath(), $"mutant-{name}");
                TempFolder.Overwrite(kept, mutant);
                Assert.Fail($"mutant {i} of {name} (kept as {kept}) took {time.TotalSeconds:F1} s and gave {outcome}");
            }
        }
        long grown = PeakRss() - rssBefore;
        TestContext.Current.SendDiagnosticMessage(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{name}: {Mutants} mutants, {parsed} parsed, slowest {slowest.TotalMilliseconds:F0} ms, memory +{grown >> 20} MB"
            )
        );
        grown.Should().BeLessThan(MostBytes);
    }

    private static (Exception? Outcome, TimeSpan Time) Try(Action<string> parse, string path)
    {
        var clock = Stopwatch.StartNew();
        using var scope = NewDisposeScope();
        try
        {
            parse(path);
            return (null, clock.Elapsed);
        }
        catch (Exception e)
        {
            return (e, clock.Elapsed);
        }
    }

    private void UseTokenizer()
    {
        var tokenizer = Tokenizers.Load(folder.Path);
        var ids = tokenizer.Encode("The river follows the stone. é \u4e2d");
        _ = tokenizer.Decode(ids);
    }

    private static long PeakRss()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }

    private static List<byte[]> Files(string under, string pattern) =>
        [
            .. Directory
                .EnumerateFiles(TestData.Require("data", under), pattern, SearchOption.AllDirectories)
                .Order(StringComparer.Ordinal)
                .Select(File.ReadAllBytes),
        ];

    private byte[] Bytes(string name) => File.ReadAllBytes(Path.Combine(tiny.Model, name));

    private static byte[] Pickle(byte[] archive)
    {
        using var zip = new System.IO.Compression.ZipArchive(new MemoryStream(archive));
        using var stream = zip.Entries.Single(e => e.Name == "data.pkl").Open();
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        return copy.ToArray();
    }

    /// <summary>The tiny tokenizer in Hugging Face's one-file form.</summary>
    private byte[] TokenizerJson()
    {
        var vocabulary = System.Text.Json.Nodes.JsonNode.Parse(Bytes("vocab.json"))!.AsObject();
        var merges = new System.Text.Json.Nodes.JsonArray([
            .. File.ReadLines(Path.Combine(tiny.Model, "merges.txt"))
                .Where(line => line.Length > 0 && !line.StartsWith('#'))
                .Select(line => (System.Text.Json.Nodes.JsonNode)line),
        ]);
        string json = $$$"""
            {"version": "1.0", "added_tokens": [{"id": 0, "content": "<|endoftext|>", "special": true, "normalized": false,
             "single_word": false, "lstrip": false, "rstrip": false}], "normalizer": null,
             "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
             "post_processor": null, "decoder": {"type": "ByteLevel"},
             "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
             "end_of_word_suffix": null, "fuse_unk": false, "vocab": {{{vocabulary.ToJsonString()}}}, "merges": {{{merges.ToJsonString()}}}}}
            """;
        TempFolder.Overwrite(folder["tokenizer.json"], Encoding.UTF8.GetBytes(json));
        UseTokenizer(); // what is mutated is itself right
        return Encoding.UTF8.GetBytes(json);
    }
}
