namespace Pipeline.Evaluate.N2G;

/// <summary>Text whose last token a latent fires on.</summary>
/// <param name="Tokens">Ids, the last one the token in question.</param>
/// <param name="Activation">The latent's, on that token; above 0.</param>
internal sealed record N2GExample(int[] Tokens, float Activation)
{
    /// <summary>A text cut after the token with the largest activation, of equal ones the first; null where none is above 0.</summary>
    /// <param name="tokensT">Ids.</param>
    /// <param name="activationsT">The latent's, on each.</param>
    /// <param name="most">Tokens kept, at most.</param>
    public static N2GExample? UpToLargest(ReadOnlySpan<int> tokensT, ReadOnlySpan<float> activationsT, int most)
    {
        int peak = 0;
        for (int t = 1; t < tokensT.Length; t++)
        {
            peak = activationsT[t] > activationsT[peak] ? t : peak;
        }
        return activationsT[peak] > 0
            ? new N2GExample(tokensT[Math.Max(0, peak + 1 - most)..(peak + 1)].ToArray(), activationsT[peak])
            : null;
    }
}
