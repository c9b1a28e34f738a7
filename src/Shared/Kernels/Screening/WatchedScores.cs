using System.Numerics;

namespace Pipeline.Shared.Kernels.Screening;

/// <summary>
/// Bounds of some latents' scores in every row, left over by a screening that meets them on its way through all latents: whoever
/// wants those latents' own largest need not compute all of their scores in float32.
/// </summary>
/// <remarks>
/// Axes: B batch, P pairs of its rows, N watched latents, filled up to a multiple of 96 with some that nothing keeps. Of each sum
/// the upper 16 bits are held, two rows' in one value, so that memory is 2 bytes x B x N; the lower ones are far below what a sum
/// may be off by anyway.
/// </remarks>
public sealed unsafe class WatchedScores : IDisposable
{
    private const int LowerBits = 16;

    /// <summary>The upper bits.</summary>
    private const int Upper = -1 << LowerBits;

    /// <summary>Whole vectors of any width, and whole blocks of <see cref="Panels"/>.</summary>
    private const int Unit = 2 * Panels.BlockRows;

    private readonly AlignedMemory<int> sumsPN = new();
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
        float floor = 0;
        if (latents.Length > k)
        {
            Bounds(row, 0, -slackB[row], mostN);
            floor = KeepLargest.LeastOf(mostN, k, simd);
        }
        Bounds(row, 1 << LowerBits, slackB[row], mostN);
        return Math.Max(floor, float.Epsilon);
    }

    public void Dispose()
    {
        sumsPN.Dispose();
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
        sumsPN.AtLeast((rows + IScreenTile.Rows - 1L) / 2 * Padded);
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
        int first = firstOfTile[tile];
        var inTile = inTileN.AsSpan(first..firstOfTile[tile + 1]);
        for (int r = 0; r < IScreenTile.Rows; r += 2)
        {
            int* even = sumsRL + (r * latentsPerTile);
            int* odd = even + latentsPerTile;
            int* to = sumsPN.Pointer + ((long)(row + r) / 2 * Padded) + first;
            for (int i = 0; i < inTile.Length; i++)
            {
                to[i] = (even[inTile[i]] >>> LowerBits) | (odd[inTile[i]] & Upper);
            }
        }
    }

    /// <summary>(sum · xScale + slack) · scale + bias, with what <see cref="EncoderScreen"/> proves of it.</summary>
    /// <param name="row">Which.</param>
    /// <param name="lower">What stands for the lower bits of its sums.</param>
    /// <param name="slack">What is added.</param>
    /// <param name="boundsN">Receives them.</param>
    private void Bounds(int row, float lower, float slack, Span<float> boundsN)
    {
        int* sums = sumsPN.Pointer + ((long)row / 2 * Padded);
        int shift = row % 2 == 0 ? LowerBits : 0;
        float* scales = scalesN.Pointer;
        float* biases = biasesN.Pointer;
        var lowers = new Vector<float>(lower);
        var xScales = new Vector<float>(scaleB[row]);
        var slacks = new Vector<float>(slack);
        fixed (float* bounds = boundsN)
        {
            for (int n = 0; n < boundsN.Length; n += Vector<float>.Count)
            {
                var upper = (Vector.Load(sums + n) << shift) & new Vector<int>(Upper);
                var bound = Vector.FusedMultiplyAdd(Vector.ConvertToSingle(upper) + lowers, xScales, slacks);
                bound = Vector.FusedMultiplyAdd(bound, Vector.Load(scales + n), Vector.Load(biases + n));
                bound.Store(bounds + n);
            }
        }
    }
}
