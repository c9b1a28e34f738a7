using System.Text;
using System.Text.Json;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Tokens;

public class TokenizerGoldenTests
{
    [Fact]
    public void Gpt2_gives_the_11378_ids_of_the_reference_file()
    {
        string folder = TestData.Require("data", "tokenizers", "gpt2");
        var expected = JsonSerializer.Deserialize<JsonElement>(
            File.ReadAllBytes(Path.Combine(folder, "tokens_gpt2.json"))
        );
        int[] ids = [.. Ids(expected)];
        ids.Should().HaveCount(11_378);

        var tokenizer = Tokenizers.Load(folder);
        string text = File.ReadAllText(Path.Combine(folder, "lib.rs.txt"));

        tokenizer.Encode(text).Should().Equal(ids);
        tokenizer.Decode(ids).Should().Be(text);
    }

    [Fact]
    public void Gpt2_gives_llama_cpps_ids_for_every_test_string()
    {
        string vectors = TestData.Require("data", "tokenizers", "vectors");
        var tokenizer = Tokenizers.Load(TestData.Require("data", "tokenizers", "gpt2"));
        string[] inputs = File.ReadAllText(Path.Combine(vectors, "gpt-2.inp")).Split("\n__ggml_vocab_test__\n");
        string[] outputs = File.ReadAllText(Path.Combine(vectors, "gpt-2.out")).TrimEnd('\n').Split('\n');
        outputs.Should().HaveCount(46);
        inputs.Length.Should().BeGreaterThanOrEqualTo(outputs.Length);

        for (int i = 0; i < outputs.Length; i++)
        {
            var expected = outputs[i].Split(' ', StringSplitOptions.RemoveEmptyEntries).Select(int.Parse);
            tokenizer.Encode(inputs[i]).Should().Equal(expected, "string {0} is '{1}'", i, inputs[i]);
        }
    }

    [Fact]
    public void Neox_tokenizer_json_loads_and_round_trips()
    {
        TestData.Require("data", "tokenizers", "neox", "tokenizer.json");
        var tokenizer = Tokenizers.Load(TestData.Require("data", "tokenizers", "neox"));

        tokenizer.Encode("Hello world").Should().Equal(12092, 1533);
        string text = "  naïve café\n\tθ ≤ 3  —  日本語 🙂";
        tokenizer.Decode(tokenizer.Encode(text)).Should().Be(text);
    }

    /// <summary>
    /// llama2.c's measure: each text as BOS + tokens (with the dummy space), cut to 512, every token after BOS scored.
    /// </summary>
    [Fact]
    public void Stories260k_has_the_known_cross_entropy_on_the_first_100_TinyStories()
    {
        string folder = TestData.Require("data", "models", "stories260k-hf");
        string stories = TestData.Require("data", "text", "tinystories_1000.json");
        var texts = JsonSerializer.Deserialize<string[]>(File.ReadAllBytes(stories))!.Take(100);
        var tokenizer = Tokenizers.Load(folder);
        using var none = no_grad();
        using var model = ModelFolder.Open(folder).Load();
        double sum = 0;
        long scored = 0;
        foreach (string text in texts)
        {
            using var scope = NewDisposeScope();
            long[] ids = [.. tokenizer.Encode(text).Prepend(tokenizer.BosId!.Value).Take(512)];
            var tokensBT = tensor(ids).unsqueeze(0);
            var losses = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT);
            sum += losses.sum(float64).item<double>();
            scored += losses.numel();
        }

        scored.Should().Be(38_168);
        (sum / scored).Should().BeApproximately(1.66389, 1e-4);
    }

    [Theory]
    [InlineData("data/tokenizers/gpt2")]
    [InlineData("data/tokenizers/neox")] // normalizes to NFC, as this text is
    [InlineData("data/models/stories260k")] // SentencePiece, a blank before the text, bytes for what has no piece
    public void Bytes_of_a_texts_tokens_add_up_to_the_texts(string folder)
    {
        var tokenizer = Tokenizers.Load(TestData.Require(folder.Split('/')));
        string[] texts =
        [
            "Hello world",
            " a blank before",
            "  naïve café\n\tθ ≤ 3  —  日本語 🙂",
            "x",
            "<|endoftext|> written out",
        ];

        foreach (string text in texts)
        {
            tokenizer
                .Encode(text)
                .Select((id, i) => tokenizer.BytesOf(id, first: i == 0))
                .Sum()
                .Should()
                .Be(Encoding.UTF8.GetByteCount(text), text);
        }
    }

    private static IEnumerable<int> Ids(JsonElement json) =>
        json.ValueKind == JsonValueKind.Array
            ? json.EnumerateArray().Select(e => e.GetInt32())
            : Ids(json.EnumerateObject().First(p => p.Value.ValueKind == JsonValueKind.Array).Value);
}
