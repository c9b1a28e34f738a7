using System.Text;
using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

/// <summary>With the shipped model, whose tokenizer has a BOS.</summary>
public sealed class ScorerTests : IDisposable
{
    private static readonly string ModelPath = Path.Combine(TestData.RepositoryRoot, "data", "models", "wiki-6l");
    private static readonly ITokenizer Tokenizer = Tokenizers.Load(ModelPath);

    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Fact]
    public void Of_one_document_in_one_context_bits_per_byte_are_those_of_the_text_by_its_bytes()
    {
        const string Text = "The Übersetzung of “café” costs 3 € — 日本語 included 🙂.";

        var score = Score([Text], context: 256);

        score.Tokens.Should().Be(Tokenizer.Encode(Text).Count);
        score.Bytes.Should().Be(Encoding.UTF8.GetByteCount(Text));
        double bits = score.CrossEntropy * score.Tokens / Math.Log(2);
        score.BitsPerByte.Should().BeApproximately(bits / score.Bytes, 1e-6);
    }

    /// <summary>Tokens first in a context have no prediction, BOS is no text, and the rest makes no context.</summary>
    [Theory]
    [InlineData(16)]
    [InlineData(7)]
    public void Over_several_contexts_bits_and_bytes_are_of_the_same_tokens(int context)
    {
        string[] texts =
        [
            .. Enumerable.Range(0, 5).Select(i => $"River number {i} flows to the sea. It is long and blue."),
        ];

        var score = Score(texts, context);

        var (bits, bytes, tail) = Plain(texts, context);
        tail.Should().BePositive("otherwise nothing tests the rest");
        score.Bytes.Should().Be(bytes);
        score.BitsPerByte.Should().BeApproximately(bits / bytes, 1e-6);
    }

    [Fact]
    public void Text_that_makes_no_further_context_changes_nothing_nor_does_a_limit_that_cuts_nothing_off()
    {
        string text = Tokenizer.Decode([.. Tokenizer.Encode(File.ReadAllText(Shipped)).Take(63)]);
        int[] ids = [.. Tokenizer.Encode(text)];
        ids.Should().HaveCount(63, "with BOS they are four contexts");

        var whole = Score([text], context: 16);
        var longer = Score([text + " and some more text"], context: 16);
        var limited = Score([text], context: 16, tokens: 64);

        longer.BitsPerByte.Should().Be(whole.BitsPerByte);
        limited.BitsPerByte.Should().Be(whole.BitsPerByte);
        longer.Bytes.Should().Be(whole.Bytes);
    }

    [Fact]
    public void Its_JSON_says_what_each_figure_is()
    {
        var json = Score(["The sea is blue."], context: 8).ToJson();

        var definitions = json["definitions"]!.AsObject().Select(entry => entry.Key);
        json.Select(entry => entry.Key).Except(["definitions", "tokens_per_s"]).Should().BeEquivalentTo(definitions);
    }

    private static string Shipped => Path.Combine(TestData.RepositoryRoot, "data", "text", "encyclopedia.jsonl");

    /// <summary>Token by token; the bytes of what is ASCII are its characters.</summary>
    private static (double Bits, long Bytes, int Tail) Plain(string[] texts, int context)
    {
        var stream = texts.SelectMany(text => Tokenizer.Encode(text).Prepend(Tokenizer.BosId!.Value)).ToArray();
        using var none = no_grad();
        using var model = ModelFolder.Open(ModelPath).Load();
        double nats = 0;
        long bytes = 0;
        foreach (int[] tokens in stream.Chunk(context).Where(tokens => tokens.Length == context))
        {
            using var scope = NewDisposeScope();
            var tokens1T = tensor(tokens, int64).unsqueeze(0);
            var logProbabilitiesTV = model.Forward(tokens1T).squeeze(0).log_softmax(-1);
            for (int t = 1; t < context; t++)
            {
                if (tokens[t] != Tokenizer.BosId)
                {
                    nats -= logProbabilitiesTV[t - 1, tokens[t]].item<float>();
                    bytes += Tokenizer.Decode([tokens[t]]).Length;
                }
            }
        }
        return (nats / Math.Log(2), bytes, stream.Length % context);
    }

    private TextScore Score(string[] texts, int context, long tokens = long.MaxValue)
    {
        string path = folder.Write(
            "text.jsonl",
            string.Concat(
                texts.Select(
                    (text, i) =>
                        new JsonObject
                        {
                            ["id"] = $"{i}",
                            ["title"] = "",
                            ["text"] = text,
                        }.ToJsonString() + "\n"
                )
            )
        );
        return Scorer.Score(
            ModelFolder.Open(ModelPath),
            Tokenizer,
            TextSources.Open(path, "test"),
            tokens,
            context,
            CancellationToken.None
        );
    }
}
