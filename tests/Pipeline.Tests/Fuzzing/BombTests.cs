using System.Diagnostics;
using System.Text;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Text;
using static TorchSharp.torch;

namespace Pipeline.Tests.Fuzzing;

/// <summary>Input made to exhaust memory, the stack or patience, and names made to leave their folder.</summary>
[Collection(MeasuresMemory.Name)]
public sealed class BombTests : IDisposable
{
    private const long MostBytes = 512L << 20;

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("text.jsonl", "{\"text\": \"")]
    [InlineData("text.json", "[\"")]
    [InlineData("wiki_00", "<doc id=\"1\" title=\"a\">\n")]
    [InlineData("text.txt", "")]
    [InlineData("wiki-001.jsonl", "{\"id\": \"a\", \"lines\": \"0\\t")]
    [InlineData("dump.xml", "<mediawiki><page><title>")]
    public void A_line_of_a_gigabyte_is_refused_in_bounded_memory(string name, string begin)
    {
        string path = folder[name];
        using (var file = File.Create(path))
        {
            file.Write(Encoding.UTF8.GetBytes(begin));
            byte[] letters = [.. Enumerable.Repeat((byte)'a', 1 << 20)];
            for (int i = 0; i < 1024; i++)
            {
                file.Write(letters);
            }
        }
        long before = PeakRss();

        ((Action)(() => ReadAll(path))).Should().Throw<ConfigurationException>().Which.Message.Should().Contain(path);

        (PeakRss() - before).Should().BeLessThan(MostBytes);
    }

    /// <summary>A gigabyte of one letter, or of short lines, in about a megabyte or less.</summary>
    [Theory]
    [InlineData(".gz", "a")]
    [InlineData(".gz", "\n")]
    [InlineData(".bz2", "a")]
    [InlineData(".bz2", "\n")]
    [InlineData(".zst", "a")]
    [InlineData(".zst", "\n")]
    public void A_compression_bomb_is_refused_in_bounded_memory(string ending, string filling)
    {
        string path = folder["text.jsonl" + ending];
        byte[] part = TextFiles.Compress(string.Concat(Enumerable.Repeat(filling, 64 << 20)), ending);
        TempFolder.Overwrite(path, [.. Enumerable.Repeat(part, 16).SelectMany(bytes => bytes)]);
        long before = PeakRss();

        ((Action)(() => ReadAll(path))).Should().Throw<ConfigurationException>().Which.Message.Should().Contain(path);

        (PeakRss() - before).Should().BeLessThan(MostBytes);
    }

    [Theory]
    [InlineData("text.jsonl")]
    [InlineData("text.json")]
    [InlineData("wiki_00")]
    [InlineData("wiki.test.raw")]
    [InlineData("wiki-001.jsonl")]
    [InlineData("dump.xml")]
    [InlineData("text.txt")]
    public void Text_that_is_not_UTF8_is_refused(string name)
    {
        string path = folder[name];
        TempFolder.Overwrite(path, [.. "<doc id=\"1\" title=\"a\">\n[\"a"u8, 0xC3, 0x28, .. "\"]\n"u8]);

        ((Action)(() => ReadAll(path))).Should().Throw<ConfigurationException>().Which.Message.Should().Contain(path);
    }

    [Theory]
    [InlineData("config.json")]
    [InlineData("tokenizer.json")]
    [InlineData("tokenizer_config.json")]
    [InlineData("vocab.json")]
    [InlineData("model.safetensors.index.json")]
    [InlineData("text.jsonl")]
    [InlineData("manifest.json")]
    [InlineData("pipeline.yaml")]
    public void Nesting_of_100_000_levels_is_refused(string name)
    {
        foreach (string opening in new[] { "[", "{\"a\":" })
        {
            string path = folder.Write(name, string.Concat(Enumerable.Repeat(opening, 100_000)));
            folder.Write("merges.txt", "");
            Open(name, path).Should().Throw<PipelineException>().Which.Message.Should().Contain(name);
        }
    }

    [Theory]
    [InlineData("tokenizer.json")]
    [InlineData("tokenizer.model")]
    [InlineData("vocab.json")]
    [InlineData("model.safetensors.index.json")]
    [InlineData("config.json")]
    [InlineData("pipeline.yaml")]
    public void A_file_far_larger_than_its_kind_is_refused_unread(string name)
    {
        string path = folder[name];
        using (var file = File.Create(path))
        {
            file.SetLength(2L << 30); // without blocks on disk
        }
        folder.Write("merges.txt", "");
        long before = PeakRss();

        Open(name, path).Should().Throw<PipelineException>().Which.Message.Should().Contain(name);

        (PeakRss() - before).Should().BeLessThan(MostBytes);
    }

    [Fact]
    public void A_billion_laughs_in_YAML_are_refused_at_the_first()
    {
        var yaml = new StringBuilder("a: &a [x, x, x, x, x, x, x, x, x]\n");
        for (char c = 'b'; c <= 'i'; c++)
        {
            yaml.Append(c)
                .Append(": &")
                .Append(c)
                .Append(" [")
                .AppendJoin(", ", Enumerable.Repeat($"*{(char)(c - 1)}", 9))
                .Append("]\n");
        }

        ((Action)(() => YamlConfiguration.Parse<PipelineConfig>(yaml.ToString(), "bomb.yaml")))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*alias*");
    }

    [Fact]
    public void A_word_pattern_of_exponential_time_is_refused_in_time()
    {
        folder.Write(
            "tokenizer.json",
            """
            {"added_tokens": [], "normalizer": null, "decoder": {"type": "ByteLevel"},
             "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
               {"type": "Split", "pattern": {"Regex": "(a+)+$"}, "behavior": "Isolated", "invert": false},
               {"type": "ByteLevel", "add_prefix_space": false, "use_regex": false}]},
             "model": {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}}
            """
        );
        var tokenizer = Tokenizers.Load(folder.Path);

        ((Action)(() => tokenizer.Encode(new string('a', 40) + "b")))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*takes more than 1 s*");
    }

    [Theory]
    [InlineData("../other.safetensors")]
    [InlineData("..")]
    [InlineData("/etc/passwd")]
    [InlineData("sub/model.safetensors")]
    [InlineData("C:\\model.safetensors")]
    [InlineData("\\\\server\\share\\model.safetensors")]
    [InlineData("")]
    public void A_weight_index_cannot_name_a_file_outside_its_folder(string name)
    {
        folder.Write(
            "model.safetensors.index.json",
            $"{{\"weight_map\": {{\"a\": {System.Text.Json.JsonSerializer.Serialize(name)}}}}}"
        );

        ((Action)(() => WeightSource.Files(folder.Path)))
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage("*weight_map.a*");
    }

    [Fact]
    public void A_shape_that_no_memory_holds_is_a_typed_error_however_the_tensor_is_loaded()
    {
        using var scope = NewDisposeScope();
        string path = folder["model.safetensors"];
        using (var stream = File.Create(path))
        {
            SafetensorsWriter.Write(stream, [("a", ones(2, 3))]);
        }
        using var source = WeightSource.Of(SafetensorsFile.Open(path), "the test", CPU);
        const long Rows = 1L << 40;
        Action[] loads =
        [
            () => source.Load("a", Rows, Rows),
            () => source.LoadJoined([("a", Rows), ("a", Rows)], Rows),
            () => source.LoadTransposed("a", Rows, Rows),
            () => source.LoadReordered("a", [Rows, Rows], stored => stored, Rows, Rows),
        ];

        foreach (var load in loads)
        {
            load.Should().Throw<CorruptArtifactException>().WithMessage("*tensor a*[2, 3]*");
        }
    }

    [Theory]
    [InlineData("../a")]
    [InlineData("/a")]
    [InlineData("a/../../b")]
    [InlineData("C:a")]
    [InlineData("a\\b")]
    [InlineData("")]
    public void A_manifest_cannot_name_a_file_outside_its_folder(string name)
    {
        var manifest = Manifest.Create("stage", [], [], [new ManifestOutput(name, 1, "x")]);

        ((Action)(() => Manifest.Write(folder.Path, manifest))).Should().Throw<ArgumentException>();
        manifest.Verify(folder.Path, rehash: true).Single().Expected.Should().Be("a path inside the folder");
    }

    private Action Open(string name, string path) =>
        name switch
        {
            "config.json" => () => ModelFolder.Open(folder.Path),
            "model.safetensors.index.json" => () => WeightSource.Files(folder.Path),
            "text.jsonl" => () => ReadAll(path),
            "manifest.json" => () => Manifest.TryRead(folder.Path),
            "pipeline.yaml" => () => YamlConfiguration.Load<PipelineConfig>(path),
            "tokenizer_config.json" => () =>
            {
                folder.Write("vocab.json", "{\"a\": 0}");
                Tokenizers.Load(folder.Path);
            },
            _ => () => Tokenizers.Load(folder.Path),
        };

    private static void ReadAll(string path)
    {
        foreach (var document in TextSources.Open(path, "text").Read())
        {
            _ = document.Text.Length;
        }
    }

    private static long PeakRss()
    {
        using var process = Process.GetCurrentProcess();
        return process.PeakWorkingSet64;
    }
}
