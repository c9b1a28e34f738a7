using System.Text.Json.Nodes;
using Pipeline.Shared.Tokens;

namespace Pipeline.Evaluate.N2G;

/// <summary>One latent: contexts it is learnt from, and contexts it is tested on.</summary>
internal sealed class N2GLatent(int index)
{
    /// <summary>Contexts patterns are made of: those in which the latent fires most.</summary>
    private const int Examples = 16;

    /// <summary>Tokens of an example, at most.</summary>
    private const int ExampleTokens = 32;

    private readonly PriorityQueue<N2GExample, (float Activation, long Earliness)> best = new();
    private readonly List<(int[] TokensT, bool[] FiredT)> heldOut = [];
    private long contexts;

    public int Index => index;

    /// <summary>Tokens of an example, at most, where another must fit in front of them.</summary>
    public static int ExampleTokensOf(int modelContext) => Math.Min(ExampleTokens, modelContext - 1);

    /// <summary>Takes contexts of T tokens in: every second one is held out.</summary>
    /// <param name="batch">Contexts.</param>
    /// <param name="activationsBT">The latent's, row-major [B, T].</param>
    /// <param name="most">Tokens of an example, at most.</param>
    public void Add(PackedContext[] batch, float[] activationsBT, int most)
    {
        int positions = activationsBT.Length / batch.Length;
        for (int b = 0; b < batch.Length; b++)
        {
            Add(batch[b].Tokens, activationsBT.AsSpan(b * positions, positions), most);
        }
    }

    private void Add(int[] tokensT, ReadOnlySpan<float> activationsT, int most)
    {
        long number = contexts++;
        if (number % 2 == 1)
        {
            var firedT = new bool[tokensT.Length];
            for (int t = 0; t < firedT.Length; t++)
            {
                firedT[t] = activationsT[t] > 0;
            }
            heldOut.Add((tokensT, firedT));
        }
        else if (N2GExample.UpToLargest(tokensT, activationsT, most) is { } example)
        {
            best.Enqueue(example, (example.Activation, -number));
            if (best.Count > Examples)
            {
                best.Dequeue();
            }
        }
    }

    /// <summary>Makes patterns of the examples and tests them.</summary>
    public (JsonObject Json, N2GScore Score) Describe(LastActivations activations, ITokenizer tokenizer, int pad)
    {
        var examples = best.UnorderedItems.OrderByDescending(item => item.Priority).Select(item => item.Element);
        var patterns = examples.Select(example => N2GPattern.Of(example, activations, pad)).ToList();
        var trie = new N2GTrie();
        foreach (var pattern in patterns.OfType<N2GPattern>())
        {
            trie.Insert(pattern);
        }
        var score = new N2GScore();
        foreach (var (tokensT, firedT) in heldOut)
        {
            score = score.With(trie, tokensT, firedT);
        }
        var json = new JsonObject { ["index"] = index, ["examples"] = patterns.Count };
        foreach (var (name, value) in score.ToJson())
        {
            json[name] = value?.DeepClone();
        }
        json["patterns"] = new JsonArray([
            .. patterns.OfType<N2GPattern>().Select(pattern => (JsonNode)Describe(pattern, tokenizer)),
        ]);
        return (json, score);
    }

    private static JsonObject Describe(N2GPattern pattern, ITokenizer tokenizer) =>
        new()
        {
            ["tokens"] = new JsonArray([
                .. pattern.Tokens.Select(token => token is { } id ? (JsonNode?)tokenizer.TokenText(id) : null),
            ]),
            ["can_pad_start"] = pattern.CanPadStart,
            ["activation"] = pattern.Activation,
        };
}
