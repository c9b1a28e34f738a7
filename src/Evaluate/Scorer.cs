using System.Diagnostics;
using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>How well a model predicts a text; <see cref="Definitions"/> says what each figure is.</summary>
/// <param name="Tokens">Next tokens predicted.</param>
/// <param name="CrossEntropy">Their mean, nats a token.</param>
/// <param name="BitsPerByte">
/// Bits of the predictions of text, by UTF-8 bytes of that very text; NaN where none of it was predicted.
/// </param>
/// <param name="Bytes">Those bytes.</param>
/// <param name="UnigramEntropy">Entropy of the scored tokens' own frequencies, nats: what knowing only those would cost.</param>
/// <param name="TokensPerSecond">Tokens scored a second.</param>
public sealed record TextScore(
    long Tokens,
    double CrossEntropy,
    double BitsPerByte,
    long Bytes,
    double UnigramEntropy,
    double TokensPerSecond
)
{
    private static readonly (string Name, string Text)[] Definitions =
    [
        ("tokens", "next tokens predicted: every token of a context but its first, BOS before documents included"),
        ("ce", "mean cross-entropy of these tokens, nats per token"),
        (
            "bits_per_byte",
            "sum of the cross-entropies of the predicted tokens that are text, in bits / UTF-8 bytes these tokens stand for: "
                + "without BOS, without what is first in a context and so not predicted, and without a rest that makes no context"
        ),
        ("bytes", "the bytes of bits_per_byte"),
        ("unigram_entropy", "entropy of the predicted tokens' own frequencies, nats per token"),
    ];

    public JsonObject ToJson() =>
        new()
        {
            ["tokens"] = Tokens,
            ["ce"] = CrossEntropy,
            ["bits_per_byte"] = MetricNumber.Of(BitsPerByte),
            ["bytes"] = Bytes,
            ["unigram_entropy"] = UnigramEntropy,
            ["tokens_per_s"] = Math.Round(TokensPerSecond, 1),
            ["definitions"] = new JsonObject(
                Definitions.Select(entry => KeyValuePair.Create(entry.Name, (JsonNode?)entry.Text))
            ),
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
        using var none = no_grad();
        using var model = folder.Load();
        var clock = Stopwatch.StartNew();
        double loss = 0;
        long scored = 0;
        double textLoss = 0;
        long bytes = 0;
        var counts = new long[folder.Config.Vocabulary];
        int firstOfText = bos == BosPolicy.None ? 0 : 1; // its position in a document
        var contexts = packer.Pack(text.Read().Select((document, index) => (index, document)));
        if (maximumTokens < long.MaxValue)
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
            float[] lossR = CpuKernels.ToArray<float>(losses);
            int row = 0;
            foreach (var packed in batch)
            {
                for (int t = 1; t < packed.Tokens.Length; t++, row++)
                {
                    counts[packed.Tokens[t]]++;
                    if (packed.Positions[t] >= firstOfText)
                    {
                        textLoss += lossR[row];
                        bytes += tokenizer.BytesOf(packed.Tokens[t], packed.Positions[t] == firstOfText);
                    }
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
            textLoss / Math.Log(2) / bytes,
            bytes,
            entropy,
            scored / clock.Elapsed.TotalSeconds
        );
    }
}
