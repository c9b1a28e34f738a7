namespace Pipeline.Evaluate.Features;

/// <summary>A token that a latent fires on, and the text around it.</summary>
/// <param name="Tokens">Ids.</param>
/// <param name="Activations">The latent's, on each.</param>
/// <param name="Peak">Which of them the example is about.</param>
/// <param name="Document">That token's document: its index in the text source.</param>
/// <param name="Position">That token's position in its document.</param>
internal sealed record LatentExample(int[] Tokens, float[] Activations, int Peak, int Document, int Position)
{
    private const int Before = 12;
    private const int After = 6;

    /// <summary>Tokens shown, at most.</summary>
    public const int Window = Before + 1 + After;

    /// <summary>What is shown around a position of a context of T tokens.</summary>
    public static (int First, int Length) Around(int position, int positions)
    {
        int first = Math.Max(0, position - Before);
        return (first, Math.Min(positions, position + After + 1) - first);
    }
}
