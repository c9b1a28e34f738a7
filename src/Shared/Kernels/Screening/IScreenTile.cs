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

    /// <summary>Of a row's latents, a bit for each with (sum · xScale + slack) · scale + bias at least <paramref name="floor"/>.</summary>
    static abstract unsafe ulong AtLeast(
        int* sumsL,
        float* scalesL,
        float* biasesL,
        float xScale,
        float slack,
        float floor
    );
}
