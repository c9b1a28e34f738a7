namespace Pipeline.Evaluate.Report.Browser;

/// <summary>What is known of every latent of one SAE: one entry per latent in each column.</summary>
/// <param name="Tokens">Tokens the figures were taken over.</param>
/// <param name="Density">Share of tokens it fires on, 0 to 1.</param>
/// <param name="MaxActivation">Largest activation; 0 where it never fires.</param>
/// <param name="IsDead">It fired on no token.</param>
/// <param name="IsDense">It fires on so many tokens that it hardly stands for one thing.</param>
/// <param name="N2GF1">How well its patterns foretell where it fires; null where none were made.</param>
/// <param name="Block">Number of the block file that describes it, or -1.</param>
internal sealed record FeatureColumns(
    long Tokens,
    double[] Density,
    double[] MaxActivation,
    bool[] IsDead,
    bool[] IsDense,
    double?[] N2GF1,
    int[] Block
)
{
    public int Latents => Block.Length;

    public int Described => Block.Count(block => block >= 0);
}
