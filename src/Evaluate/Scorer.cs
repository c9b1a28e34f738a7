using System.Diagnostics;
using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>How well a model predicts a text.</summary>
/// <param name="Tokens">Next tokens predicted.</param>
/// <param name="CrossEntropy">Mean, nats a token.</param>
/// <param name="BitsPerByte">Cross-entropy in bits times tokens per UTF-8 byte of the text read.</param>
/// <param name="UnigramEntropy">Entropy of the scored tokens' own frequencies, nats: what knowing only those would cost.</param>
/// <param name="TokensPerSecond">Tokens scored a second.</param>
public sealed record TextScore(
    long Tokens,
    double CrossEntropy,
    double BitsPerByte,
    double UnigramEntropy,
    double TokensPerSecond
)
{
    public JsonObject ToJson() =>
        new()
        {
            ["tokens"] = Tokens,
            ["ce"] = CrossEntropy,
            ["bits_per_byte"] = BitsPerByte,
            ["unigram_entropy"] = UnigramEntropy,
            ["tokens_per_s"] = Math.Round(TokensPerSecond, 1),
        };

    public override string ToString() =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"{Tokens} tokens: {CrossEntropy:F5} nats per token, {BitsPerByte:F4} bits per byte (unigram entropy {UnigramEntropy:F4} nats), {TokensPerSecond:N0} tokens/s"
        );
}

/// <summary>Scores a text: documents packed end to end, each behind a BOS where the tokenizer has one.</summary>
public static class Scorer
{
    private const int TokensPerForward = 4096;
    private const int LongestDefaultContext = 1024;

    /// <exception cref="ConfigurationException">A context the model was not made for, or no text.</exception>
    public static TextScore Score(
        ModelFolder folder,
        ITokenizer tokenizer,
        ITextSource text,
        long maximumTokens,
        int? context,
        CancellationToken cancel
    )
    {
        int length = context ?? Math.Min(LongestDefaultContext, folder.Config.Context);
        if (length < 2 || length > folder.Config.Context)
        {
            throw new ConfigurationException(
                new Fault(
                    "--context",
                    $"{length}",
                    $"2 to {folder.Config.Context}",
                    "Choose a context in this range"
                ).ToString()
            );
        }
        var bos = tokenizer.BosId is null ? BosPolicy.None : BosPolicy.EachDocument;
        var packer = new TokenPacker(tokenizer, length, bos, separator: false, "score");
        var counter = new ByteCounter();
        using var none = no_grad();
        using var model = folder.Load();
        var clock = Stopwatch.StartNew();
        double loss = 0;
        long scored = 0;
        long tokens = 0;
        var counts = new long[folder.Config.Vocabulary];
        // The text's own bytes where all of it is scored; where it is cut, those of the tokens that are.
        bool isCut = maximumTokens < long.MaxValue;
        long cutBytes = 0;
        var contexts = packer.Pack(counter.Count(text.Read()));
        if (isCut)
        {
            contexts = contexts.Take((int)Math.Clamp(maximumTokens / length, 1, int.MaxValue));
        }
        foreach (var batch in contexts.Chunk(Math.Max(1, TokensPerForward / length)))
        {
            cancel.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var tokensBT = ContextTensor.Of(batch, model.Device);
            var losses = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT);
            loss += losses.sum(float64).item<double>();
            scored += losses.numel();
            foreach (var packed in batch)
            {
                tokens += packed.Tokens.Length;
                cutBytes += isCut
                    ? Encoding.UTF8.GetByteCount(tokenizer.Decode([.. packed.Tokens.Where(t => t != tokenizer.BosId)]))
                    : 0;
                foreach (int token in packed.Tokens.AsSpan(1))
                {
                    counts[token]++;
                }
            }
        }
        if (scored == 0)
        {
            throw new ConfigurationException(
                new Fault(
                    "text",
                    "no text to score",
                    "at least two tokens",
                    "Give a text source that is not empty"
                ).ToString()
            );
        }
        double entropy = counts.Where(c => c > 0).Sum(c => -(c / (double)scored) * Math.Log(c / (double)scored));
        return new TextScore(
            scored,
            loss / scored,
            loss / scored / Math.Log(2) * tokens / (isCut ? cutBytes : counter.Bytes),
            entropy,
            scored / clock.Elapsed.TotalSeconds
        );
    }

    private sealed class ByteCounter
    {
        public long Bytes { get; private set; }

        public IEnumerable<(int Index, Document Document)> Count(IEnumerable<Document> documents)
        {
            int index = 0;
            foreach (var document in documents)
            {
                Bytes += Encoding.UTF8.GetByteCount(document.Text);
                yield return (index++, document);
            }
        }
    }
}
