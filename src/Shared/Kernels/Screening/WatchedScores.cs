using System.Numerics;

namespace Pipeline.Shared.Kernels.Screening;

/// <summary>
/// Bounds of some latents' scores in every row, left over by a screening that meets them on its way through all latents: whoever
/// wants those latents' own largest need not compute all of their scores in float32.
/// </summary>
/// <remarks>
/// Axes: B batch, N watched latents, filled up to a multiple of 96 with some that nothing keeps. Of each sum the upper 16 bits are
/// held, so that memory is 2 bytes x B x N; the lower ones are far below what a sum may be off by anyway.
/// </remarks>
public sealed unsafe class WatchedScores : IDisposable
{
    private const int LowerBits = 16;

    /// <summary>Whole vectors of any width, and whole blocks of <see cref="Panels"/>.</summary>
    private const int Unit = 2 * Panels.BlockRows;

    private readonly AlignedMemory<short> sumsBN = new();
    private readonly AlignedMemory<float> scalesN = new();
    private readonly AlignedMemory<float> biasesN = new();
    private int[] latents = [];
    private int[] inTileN = [];
    private int[] firstOfTile = [0];
    private float[] scaleB = [];
    private float[] slackB = [];

    /// <summary>The latents watched, ascending.</summary>
    public ReadOnlySpan<int> Latents => latents;

    /// <summary>N with what fills it up.</summary>
    public int Padded => (latents.Length + Unit - 1) / Unit * Unit;

    /// <summary>Takes a latent for one that reaches nothing, until the next selection.</summary>
    /// <param name="n">Its place among <see cref="Latents"/>.</param>
    public void Ignore(int n) => biasesN.Pointer[n] = float.NegativeInfinity;

    /// <summary>What the watched latents' scores in a row are at the most.</summary>
    /// <param name="row">Of the batch last selected from.</param>
    /// <param name="k">From 1.</param>
    /// <param name="mostN">Receives it; <see cref="Padded"/> values.</param>
    /// <param name="simd">Which form runs; all give the same.</param>
    /// <returns>What those reach that may be among the k largest positive scores; positive.</returns>
    public float Bounds(int row, int k, Span<float> mostN, SimdWidth simd)
    {
        short* sums = sumsBN.Pointer + ((long)row * Padded);
        float floor = 0;
        if (latents.Length > k)
        {
            Bounds(sums, 0, scaleB[row], -slackB[row], mostN);
            floor = KeepLargest.LeastOf(mostN, k, simd);
        }
        Bounds(sums, 1 << LowerBits, scaleB[row], slackB[row], mostN);
        return Math.Max(floor, float.Epsilon);
    }

    public void Dispose()
    {
        sumsBN.Dispose();
        scalesN.Dispose();
        biasesN.Dispose();
    }

    /// <summary>Names the latents of the next selections.</summary>
    /// <param name="watched">Ascending.</param>
    /// <param name="tiles">Tiles of the dictionary.</param>
    /// <param name="latentsPerTile">Of each.</param>
    internal void Watch(ReadOnlySpan<int> watched, int tiles, int latentsPerTile)
    {
        latents = watched.ToArray();
        inTileN = new int[watched.Length];
        firstOfTile = new int[tiles + 1];
        for (int n = 0; n < watched.Length; n++)
        {
            inTileN[n] = watched[n] % latentsPerTile;
            firstOfTile[(watched[n] / latentsPerTile) + 1] = n + 1;
        }
        for (int tile = 1; tile <= tiles; tile++)
        {
            firstOfTile[tile] = Math.Max(firstOfTile[tile], firstOfTile[tile - 1]);
        }
    }

    /// <summary>Makes room for a batch.</summary>
    /// <param name="rows">B.</param>
    /// <param name="scalesF">Factors of the latents' int16 values.</param>
    /// <param name="biasesF">b_enc.</param>
    internal void Begin(int rows, float* scalesF, float* biasesF)
    {
        sumsBN.AtLeast((rows + IScreenTile.Rows - 1L) * Padded);
        float* scales = scalesN.AtLeast(Padded);
        float* biases = biasesN.AtLeast(Padded);
        for (int n = 0; n < Padded; n++)
        {
            bool isFilling = n >= latents.Length;
            scales[n] = isFilling ? 0 : scalesF[latents[n]];
            biases[n] = isFilling ? float.NegativeInfinity : biasesF[latents[n]];
        }
        if (scaleB.Length < rows)
        {
            (scaleB, slackB) = (new float[rows], new float[rows]);
        }
    }

    /// <summary>What a row's sums are to be read by; see <see cref="ScreenedRow"/>.</summary>
    internal void Begin(int row, float scale, float slack) => (scaleB[row], slackB[row]) = (scale, slack);

    /// <summary>Takes what a tile has of them.</summary>
    /// <param name="row">The tile's first; of rows after the batch's last nobody asks.</param>
    /// <param name="latent">The tile's first.</param>
    /// <param name="sumsRL">The tile's sums.</param>
    /// <param name="latentsPerTile">L.</param>
    internal void Take(int row, int latent, int* sumsRL, int latentsPerTile)
    {
        int tile = latent / latentsPerTile;
        int padded = Padded;
        for (int n = firstOfTile[tile]; n < firstOfTile[tile + 1]; n++)
        {
            int* from = sumsRL + inTileN[n];
            short* to = sumsBN.Pointer + ((long)row * padded) + n;
            for (int r = 0; r < IScreenTile.Rows; r++)
            {
                to[r * (long)padded] = (short)(from[r * latentsPerTile] >> LowerBits);
            }
        }
    }

    /// <summary>(sum · xScale + slack) · scale + bias, with what <see cref="EncoderScreen"/> proves of it.</summary>
    /// <param name="sums">The row's, upper bits.</param>
    /// <param name="lower">What stands for the lower ones.</param>
    /// <param name="xScale">The row's.</param>
    /// <param name="slack">The row's.</param>
    /// <param name="boundsN">Receives them.</param>
    private void Bounds(short* sums, float lower, float xScale, float slack, Span<float> boundsN)
    {
        float* scales = scalesN.Pointer;
        float* biases = biasesN.Pointer;
        var lowers = new Vector<float>(lower);
        var xScales = new Vector<float>(xScale);
        var slacks = new Vector<float>(slack);
        fixed (float* bounds = boundsN)
        {
            for (int n = 0; n < boundsN.Length; n += Vector<short>.Count)
            {
                Vector.Widen(Vector.Load(sums + n), out var first, out var second);
                Bound(first, n).Store(bounds + n);
                Bound(second, n + Vector<float>.Count).Store(bounds + n + Vector<float>.Count);
            }
        }

        Vector<float> Bound(Vector<int> upper, int n)
        {
            var product = Vector.ConvertToSingle(upper << LowerBits) + lowers;
            product = Vector.FusedMultiplyAdd(product, xScales, slacks);
            return Vector.FusedMultiplyAdd(product, Vector.Load(scales + n), Vector.Load(biases + n));
        }
    }
}
