namespace Pipeline.Evaluate.N2G;

/// <summary>
/// A latent's patterns, each from its last token leftwards. A path to where a pattern ends predicts that pattern's
/// activation.
/// </summary>
internal sealed class N2GTrie
{
    private readonly Node root = new();

    /// <summary>Adds a pattern; of equal ones the largest activation stays.</summary>
    public void Insert(N2GPattern pattern)
    {
        var node = root;
        foreach (int? token in pattern.Tokens.Reverse())
        {
            node = node.Child(token);
        }
        node = pattern.CanPadStart ? node : node.Start ??= new Node();
        node.Value = Math.Max(node.Value ?? 0, pattern.Activation);
    }

    /// <summary>
    /// The activation predicted on one token of a text, from it and those before it, 0 where no pattern fits. A token's own
    /// branch is preferred to the wildcard's and there is no way back; the first pattern that ends decides.
    /// </summary>
    /// <param name="tokensT">The text.</param>
    /// <param name="position">Of the token.</param>
    public float Predict(ReadOnlySpan<int> tokensT, int position)
    {
        var node = root;
        for (int t = position; t >= 0; t--)
        {
            node = node.Literals.GetValueOrDefault(tokensT[t]) ?? node.Wildcard;
            if (node is null)
            {
                return 0;
            }
            if (node.Value is { } value)
            {
                return value;
            }
        }
        return node.Start?.Value ?? 0;
    }

    private sealed class Node
    {
        public Dictionary<int, Node> Literals { get; } = [];

        public Node? Wildcard { get; private set; }

        /// <summary>Reached before the text's first token.</summary>
        public Node? Start { get; set; }

        /// <summary>Where a pattern ends, its activation.</summary>
        public float? Value { get; set; }

        public Node Child(int? token)
        {
            if (token is not { } id)
            {
                return Wildcard ??= new Node();
            }
            if (!Literals.TryGetValue(id, out var child))
            {
                Literals.Add(id, child = new Node());
            }
            return child;
        }
    }
}
