namespace Pipeline.Evaluate.N2G;

/// <summary>A latent's activation on the last token of each list of ids.</summary>
internal delegate float[] LastActivations(IReadOnlyList<int[]> tokenLists);

/// <summary>What it takes before a token for a latent to fire on it (Foote et al. 2023, Neuron to Graph).</summary>
/// <param name="Tokens">Ids in the text's order; null stands for any token.</param>
/// <param name="CanPadStart">Whether other text may stand before them; otherwise they begin the text.</param>
/// <param name="Activation">The latent's, on the last token of this stretch alone.</param>
internal sealed record N2GPattern(int?[] Tokens, bool CanPadStart, float Activation)
{
    /// <summary>
    /// What share of the activation must be left for what is missing not to matter; and the saliency, the share that goes
    /// when a token is replaced, below which it does not.
    /// </summary>
    private const float Share = 0.5f;

    /// <summary>Suffixes that are tried at a time.</summary>
    private const int SuffixesAtATime = 8;

    /// <summary>
    /// The shortest suffix that keeps the activation, its unimportant tokens made wildcards; null where the latent does not
    /// fire on it at all, which happens when the example itself was cut from a longer text.
    /// </summary>
    /// <param name="example">What the latent fires on.</param>
    /// <param name="activations">The latent.</param>
    /// <param name="pad">The id put in a token's place, and before the suffix.</param>
    public static N2GPattern? Of(N2GExample example, LastActivations activations, int pad)
    {
        float enough = Share * example.Activation;
        var (suffix, activation) = MinimalSuffix(example.Tokens, enough, activations);
        if (activation <= 0)
        {
            return null;
        }
        bool canPadStart =
            activations([
                [pad, .. suffix],
            ])[0] >= enough;
        float[] withoutT = activations([
            .. suffix.Select((_, i) => (int[])[.. suffix[..i], pad, .. suffix[(i + 1)..]]),
        ]);
        var tokens = suffix.Select((token, i) => 1 - (withoutT[i] / activation) < Share ? null : (int?)token);
        return new N2GPattern([.. tokens], canPadStart, activation);
    }

    /// <summary>Grown leftwards from the last token until enough of the activation is there; else all there is.</summary>
    private static (int[] Suffix, float Activation) MinimalSuffix(
        int[] tokens,
        float enough,
        LastActivations activations
    )
    {
        float last = 0;
        for (int tried = 0; tried < tokens.Length; tried += SuffixesAtATime)
        {
            int count = Math.Min(SuffixesAtATime, tokens.Length - tried);
            float[] found = activations([.. Enumerable.Range(tried + 1, count).Select(n => tokens[^n..])]);
            int first = Array.FindIndex(found, activation => activation >= enough);
            if (first >= 0)
            {
                return (tokens[^(tried + first + 1)..], found[first]);
            }
            last = found[^1];
        }
        return (tokens, last);
    }
}
