using System.Buffers.Binary;
using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Pipelines;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

public sealed class Llama2cTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("stories260K.bin")]
    [InlineData("")]
    public void The_real_model_is_the_same_as_in_the_layout_of_Hugging_Face(string file)
    {
        string path = TestData.Require("data", "models", "stories260k", file);
        var other = ModelFolder.Open(TestData.Require("data", "models", "stories260k-hf"));
        using var scope = NewDisposeScope();

        var opened = ModelFolder.Open(path);

        opened.Config.Should().Be(other.Config);
        using var model = opened.Load();
        using var expected = other.Load();
        model
            .Weights.Parameters()
            .Select(p => (p.Name, Value: CpuKernels.ToArray<float>(p.Value)))
            .Should()
            .BeEquivalentTo(
                expected.Weights.Parameters().Select(p => (p.Name, Value: CpuKernels.ToArray<float>(p.Value))),
                options => options.WithStrictOrdering()
            );
    }

    [Theory]
    [InlineData(0, true)]
    [InlineData(0, false)]
    [InlineData(1, true)]
    [InlineData(1, false)]
    public void Every_weight_of_both_versions_comes_to_its_place(int version, bool tied)
    {
        using var scope = NewDisposeScope();
        using var model = ModelFolder.Open(Write(Llama2cFiles.Write(version, tied))).Load();

        model.Config.TiedEmbeddings.Should().Be(tied);
        Same(model.Weights.TokenEmbedding, "embedding", 0);
        Same(model.Weights.Unembedding.Weight, tied ? "embedding" : "output", 0);
        Same(model.Weights.FinalNorm.Weight, "norm", 0);
        for (int layer = 0; layer < Llama2cFiles.Layers; layer++)
        {
            var block = model.Weights.Blocks[layer];
            Same(block.AttentionNorm!.Weight, "norm1", layer);
            Same(block.MlpNorm!.Weight, "norm2", layer);
            Same(block.AttentionOut.Weight, "o", layer);
            Same(block.MlpIn.Weight.narrow(0, 0, Llama2cFiles.Hidden), "w1", layer);
            Same(block.MlpIn.Weight.narrow(0, Llama2cFiles.Hidden, Llama2cFiles.Hidden), "w3", layer);
            Same(block.MlpOut.Weight, "w2", layer);
            Same(block.Qkv.Weight.narrow(0, 12, 4), "v", layer);
            // Rows of a head go from (x0, y0, x1, y1), pairs beside each other, to (x0, x1, y0, y1).
            Same(block.Qkv.Weight[tensor(new long[] { 0, 2, 1, 3, 4, 6, 5, 7 })], "q", layer);
            Same(block.Qkv.Weight[tensor(new long[] { 8, 10, 9, 11 })], "k", layer);
        }
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    public void Every_cut_and_every_byte_too_many_is_refused_by_name(int version)
    {
        byte[] whole = Llama2cFiles.Write(version, tied: true);
        for (int length = 0; length < whole.Length; length += 7)
        {
            Refused(whole[..length]);
        }
        Refused([.. whole, 0]);
    }

    /// <summary>dim, hidden_dim, n_layers, n_heads, n_kv_heads, vocab_size, max_seq_len.</summary>
    [Theory]
    [InlineData(0, 0, "dim")]
    [InlineData(1, -5, "hidden_dim")]
    [InlineData(2, int.MaxValue, "n_layers")]
    [InlineData(2, 1 << 24, "bytes")]
    [InlineData(3, 3, "n_heads")]
    [InlineData(3, 8, "n_heads")]
    [InlineData(4, 0, "n_kv_heads")]
    [InlineData(5, int.MinValue, "vocab_size")]
    [InlineData(5, 17, "bytes")]
    [InlineData(6, 0, "max_seq_len")]
    public void A_header_that_no_model_has_is_refused_by_field(int field, int value, string named)
    {
        byte[] bytes = Llama2cFiles.Write(version: 0, tied: true);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(field * sizeof(int)), value);

        Refused(bytes).Should().Contain(named);
    }

    [Theory]
    [InlineData(2, "quantised")]
    [InlineData(3, "version")]
    public void Other_versions_are_refused_by_number(int version, string named)
    {
        byte[] bytes = Llama2cFiles.Write(version: 1, tied: true);
        BinaryPrimitives.WriteInt32LittleEndian(bytes.AsSpan(sizeof(int)), version);

        Refused(bytes).Should().Contain($"found {version}").And.Contain(named);
    }

    [Fact]
    public void A_folder_of_several_models_asks_for_the_file()
    {
        Write(Llama2cFiles.Write(0, true));
        TempFolder.Overwrite(folder["other.bin"], Llama2cFiles.Write(1, true));
        TempFolder.Overwrite(folder["tokenizer.bin"], [1, 2, 3]);

        ((Action)(() => ModelFolder.Open(folder.Path)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*model.bin, other.bin*Name the file*");
        ModelFolder.Open(folder["other.bin"]).Config.Width.Should().Be(Llama2cFiles.Dim);
    }

    [Fact]
    public void A_tokenizer_of_llama2c_gives_the_ids_of_the_SentencePiece_model_it_was_made_of()
    {
        foreach (string name in new[] { "tok512.bin", "tok512.model" })
        {
            Directory.CreateDirectory(folder[Path.GetExtension(name)]);
            File.Copy(Source(name), folder[Path.GetExtension(name), name]);
        }
        string text = string.Concat(
            File.ReadLines(TestData.Require("data", "wikipedia", "wikitext2", "wiki.test.raw")).Take(200)
        );

        var tokenizer = Tokenizers.Load(folder[".bin"]);
        var expected = Tokenizers.Load(folder[".model"]);

        tokenizer.VocabularySize.Should().Be(expected.VocabularySize);
        (tokenizer.BosId, tokenizer.EosId).Should().Be((expected.BosId, expected.EosId));
        foreach (string line in new[] { text, "", " ", "  a  naïve café\n\tθ ≤ 3  —  日本語 🙂 <s> <0x0A>" })
        {
            var ids = tokenizer.Encode(line);
            ids.Should().Equal(expected.Encode(line));
            tokenizer.Decode(ids).Should().Be(expected.Decode(ids)).And.Be(line);
        }
        Enumerable
            .Range(0, expected.VocabularySize)
            .Should()
            .OnlyContain(id => tokenizer.TokenText(id).Trim() == expected.TokenText(id).Trim());
    }

    [Fact]
    public void Every_cut_of_a_tokenizer_within_a_piece_is_refused_by_name()
    {
        byte[] whole = File.ReadAllBytes(Source("tok512.bin"));
        string path = folder["tok512.bin"];
        foreach (int length in new[] { 0, 3, 4, 10, 17, 30, whole.Length - 1 })
        {
            TempFolder.Overwrite(path, whole.AsSpan(0, length));

            ((Action)(() => Tokenizers.Load(folder.Path)))
                .Should()
                .Throw<ConfigurationException>()
                .Which.Message.Should()
                .Contain(path);
        }
    }

    [Fact]
    public void A_folder_of_several_tokenizers_is_refused()
    {
        folder.Write("tok1.bin", "");
        folder.Write("tok2.bin", "");

        ((Action)(() => Tokenizers.Load(folder.Path)))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*tok1.bin, tok2.bin*");
    }

    [Theory]
    [InlineData("wikipedia/wikitext2/wiki.test.raw")]
    [InlineData("text/tinystories_1000.json")]
    public void Both_layouts_score_a_text_alike(string text)
    {
        string source = TestData.Require(["data", .. text.Split('/')]);
        TextScore Score(string model) =>
            Scorer.Score(
                ModelFolder.Open(model),
                Tokenizers.Load(model),
                TextSources.Open(source, "test"),
                20_000,
                null,
                CancellationToken.None
            );

        var one = Score(TestData.Require("data", "models", "stories260k", "stories260K.bin"));
        var other = Score(TestData.Require("data", "models", "stories260k-hf"));

        one.Tokens.Should().Be(other.Tokens).And.BeGreaterThan(19_000);
        one.CrossEntropy.Should().BeApproximately(other.CrossEntropy, 1e-5);
        one.CrossEntropy.Should().BeInRange(1, 6);
    }

    [Fact]
    public void A_file_and_its_folder_run_through_the_pipeline()
    {
        string text = TestData.Require("data", "text", "tinystories_1000.json");
        string file = TestData.Require("data", "models", "stories260k", "stories260K.bin");
        foreach (string model in new[] { file, Path.GetDirectoryName(file)! })
        {
            string name = Path.GetFileName(model);
            var run = SaeProcess.Run(
                "run",
                "pipelines/quickstart.yaml",
                "--only",
                "harvest",
                "--out",
                folder[name],
                "--set",
                $"model={model}",
                "--set",
                $"text={text}",
                "--set",
                "harvest.hooks=[blocks.mid.hook_resid_post]",
                "--set",
                "harvest.tokens=4k"
            );

            run.ExitCode.Should().Be(0, run.Error);
            var manifest = JsonNode.Parse(File.ReadAllText(folder[name, "harvest", "manifest.json"]))!;
            manifest["results"]!["tokens"]!.GetValue<long>().Should().BeInRange(3_000, 4_000);
        }
        var score = SaeProcess.Run("score", file, text, "--tokens", "2000", "--json");
        score.ExitCode.Should().Be(0, score.Error);
        JsonNode.Parse(score.Output)!["ce"]!.GetValue<double>().Should().BeInRange(1, 2.5);
    }

    private static string Source(string name) => TestData.Require("data", "models", "stories260k", name);

    private string Write(byte[] bytes)
    {
        TempFolder.Overwrite(folder["model.bin"], bytes);
        return folder["model.bin"];
    }

    private string Refused(byte[] bytes)
    {
        string path = Write(bytes);
        return ((Action)(() => ModelFolder.Open(path)))
            .Should()
            .Throw<CorruptArtifactException>($"{bytes.Length} bytes")
            .Which.Message.Should()
            .Contain(path)
            .And.Subject;
    }

    private static void Same(Tensor weight, string name, int layer)
    {
        float[] values = CpuKernels.ToArray<float>(weight);
        values.Should().Equal(Llama2cFiles.Values(name).Skip(layer * values.Length).Take(values.Length), name);
    }
}
