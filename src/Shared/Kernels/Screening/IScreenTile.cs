namespace Pipeline.Shared.Kernels.Screening;

/// <summary>
/// The innermost loop of <see cref="EncoderScreen"/>, at one width of vectors: products of <see cref="Rows"/> rows with
/// <see cref="Latents"/> latents in int16, sums in int32. Every form gives the same integers.
/// </summary>
internal interface IScreenTile
{
    /// <summary>R, rows of a tile.</summary>
    const int Rows = 4;

    /// <summary>L, latents of a tile; at most 64.</summary>
    static abstract int Latents { get; }

    /// <summary>Σ over D of w x. No call may stand in it: vectors that live across one are kept in memory.</summary>
    /// <param name="xPR">Pairs of neighbouring dimensions, an int16 each, [D / 2, R].</param>
    /// <param name="wPL">The same of the latents, [D / 2, L].</param>
    /// <param name="pairs">D / 2.</param>
    /// <param name="sumsRL">Receives the sums.</param>
    static abstract unsafe void Multiply(int* xPR, int* wPL, int pairs, int* sumsRL);

    /// <summary>Collects of a row's latents those with (sum · xScale + slack) · scale + bias at least <paramref name="floor"/>.</summary>
    /// <param name="sumsL">The row's.</param>
    /// <param name="scalesL">The latents'.</param>
    /// <param name="biasesL">The latents'.</param>
    /// <param name="xScale">The row's.</param>
    /// <param name="slack">The row's.</param>
    /// <param name="floor">What counts as enough.</param>
    /// <param name="first">The first latent's number.</param>
    /// <param name="found">Receives them; room for L. At the least a score is the same with slack of the other sign: rounding is monotonic.</param>
    /// <returns>How many.</returns>
    static abstract unsafe int Collect(
        int* sumsL,
        float* scalesL,
        float* biasesL,
        float xScale,
        float slack,
        float floor,
        int first,
        Candidates found
    );
}
