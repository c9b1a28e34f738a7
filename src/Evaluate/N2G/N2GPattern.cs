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
    /// Of each example the shortest suffix that keeps the activation, its unimportant tokens made wildcards; null where the
    /// latent does not fire on it at all, which happens when the example itself was cut from a longer text.
    /// </summary>
    /// <param name="examples">What the latent fires on.</param>
    /// <param name="activations">The latent.</param>
    /// <param name="pad">The id put in a token's place, and before the suffix.</param>
    public static N2GPattern?[] Of(IReadOnlyList<N2GExample> examples, LastActivations activations, int pad)
    {
        var suffixes = MinimalSuffixes(examples, activations);
        // All in one go: forwards of a few short lists are far from what the machine can do.
        var alteredLists = suffixes
            .Where(suffix => suffix.Activation > 0)
            .SelectMany(suffix => Altered(suffix.Tokens, pad))
            .ToList();
        float[] altered = alteredLists.Count == 0 ? [] : activations(alteredLists);
        var patterns = new N2GPattern?[examples.Count];
        int at = 0;
        for (int e = 0; e < examples.Count; e++)
        {
            var (suffix, activation) = suffixes[e];
            if (activation > 0)
            {
                bool canPadStart = altered[at++] >= Share * examples[e].Activation;
                var tokens = suffix.Select(token => 1 - (altered[at++] / activation) < Share ? null : (int?)token);
                patterns[e] = new N2GPattern([.. tokens], canPadStart, activation);
            }
        }
        return patterns;
    }

    /// <summary>The suffix with a pad in front, and with a pad in each token's place.</summary>
    private static IEnumerable<int[]> Altered(int[] suffix, int pad) =>
        suffix.Select((_, i) => (int[])[.. suffix[..i], pad, .. suffix[(i + 1)..]]).Prepend([pad, .. suffix]);

    /// <summary>Each example's, grown leftwards from the last token until enough of the activation is there; else all there is.</summary>
    private static (int[] Tokens, float Activation)[] MinimalSuffixes(
        IReadOnlyList<N2GExample> examples,
        LastActivations activations
    )
    {
        var suffixes = new (int[] Tokens, float Activation)[examples.Count];
        int[] open = [.. Enumerable.Range(0, examples.Count)];
        for (int tried = 0; open.Length > 0; tried += SuffixesAtATime)
        {
            var lengths = open.ToDictionary(
                e => e,
                e => Enumerable.Range(tried + 1, Math.Min(SuffixesAtATime, examples[e].Tokens.Length - tried)).ToList()
            );
            float[] found = activations([
                .. open.SelectMany(e => lengths[e].Select(length => examples[e].Tokens[^length..])),
            ]);
            var stillOpen = new List<int>();
            int at = 0;
            foreach (int e in open)
            {
                var own = found.AsSpan(at, lengths[e].Count);
                at += own.Length;
                int enough = 0;
                while (enough < own.Length - 1 && own[enough] < Share * examples[e].Activation)
                {
                    enough++;
                }
                suffixes[e] = (examples[e].Tokens[^lengths[e][enough]..], own[enough]);
                if (own[enough] < Share * examples[e].Activation && lengths[e][^1] < examples[e].Tokens.Length)
                {
                    stillOpen.Add(e);
                }
            }
            open = [.. stillOpen];
        }
        return suffixes;
    }
}
