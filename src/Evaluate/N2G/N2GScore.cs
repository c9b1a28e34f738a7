namespace Pipeline.Evaluate.N2G;

/// <summary>How well predictions tell where a latent fires, over tokens.</summary>
/// <param name="Predicted">Tokens with a prediction above 0.</param>
/// <param name="Fired">Tokens with an activation above 0.</param>
/// <param name="Both">Tokens with both.</param>
internal readonly record struct N2GScore(long Predicted, long Fired, long Both)
{
    /// <summary>Null where nothing was predicted.</summary>
    public double? Precision => Predicted == 0 ? null : Both / (double)Predicted;

    /// <summary>Null where it never fired.</summary>
    public double? Recall => Fired == 0 ? null : Both / (double)Fired;

    /// <summary>2 Both / (Predicted + Fired), the harmonic mean of the two; null where there is neither.</summary>
    public double? F1 => Predicted + Fired == 0 ? null : 2 * Both / (double)(Predicted + Fired);

    /// <summary>Adds a text.</summary>
    /// <param name="trie">Predicts.</param>
    /// <param name="tokensT">Ids.</param>
    /// <param name="activationsT">The latent's, on each.</param>
    /// <param name="except">A token that counts for nothing; null where all count.</param>
    public N2GScore With(N2GTrie trie, ReadOnlySpan<int> tokensT, ReadOnlySpan<float> activationsT, int? except = null)
    {
        var (predicted, fired, both) = (Predicted, Fired, Both);
        for (int t = 0; t < tokensT.Length; t++)
        {
            if (tokensT[t] == except)
            {
                continue;
            }
            bool isPredicted = trie.Predict(tokensT, t) > 0;
            predicted += isPredicted ? 1 : 0;
            fired += activationsT[t] > 0 ? 1 : 0;
            both += isPredicted && activationsT[t] > 0 ? 1 : 0;
        }
        return new N2GScore(predicted, fired, both);
    }
}
