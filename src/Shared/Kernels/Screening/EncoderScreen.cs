using System.Collections.Concurrent;
using System.Numerics;
using System.Runtime.InteropServices;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels.Screening;

/// <summary>
/// The largest of all latents' scores w·x + b, exactly, without computing them all in float32.
/// <code>
/// W_enc, x ──int16──> w·x in int32 with a proven bound on its error ──> the few latents that may be among the largest
///                                                                                └──float32──> scores ──> the largest
/// </code>
/// With w = s q + δ and x = t p + ε (q, p integers), w·x = s t q·p + (w·ε + δ·t p), and by Cauchy and Schwarz the bracket is
/// at most |w||ε| + |δ||t p|. Scales are chosen so that |q| and |p| stay below √(2^31): q·p and all its partial sums then fit
/// into an int32. What is kept is scored in float32 and compared there, so that the result is what float32 scores alone give,
/// ties to the earlier latent; quantisation decides nothing. Each row's result depends on that row alone.
/// </summary>
/// <remarks>Axes: B batch, D width, F latents, K kept. Memory: 2 bytes a weight.</remarks>
public sealed unsafe class EncoderScreen : IDisposable
{
    /// <summary>int16 values of a thread's rows, so many bytes at most: they stay in its cache beside one tile's latents.</summary>
    private const int RowBytesAtATime = 256 << 10;
    private const int MostRowsAtATime = 192;

    /// <summary>Rows from which the floor of a selection over a batch is guessed, and what of the guess is used.</summary>
    private const int SampledRows = 32;
    private const float GuessUsed = 0.85f;

    /// <summary>A norm below it is taken for this: its reciprocal is still finite.</summary>
    private const float SmallestScale = 1e-30f;

    /// <summary>What a float32 operation rounds by, at the most, over its result.</summary>
    private const float HalfUlp = 6e-8f;

    private readonly int width;
    private readonly int features;
    private readonly int pairs;
    private readonly int rowsAtATime;
    private readonly int latentsPerTile;
    private readonly SimdWidth simd;
    private readonly AlignedMemory<int> weights;
    private readonly AlignedMemory<float> scales;
    private readonly AlignedMemory<float> biases;
    private readonly ConcurrentBag<Scratch> scratches = [];
    private readonly List<ScreenedRow> batchRows = [];
    private float[] gathered = [];

    /// <summary>What rows of the last selection of each row's k had to reach: the next one's are guessed by them.</summary>
    private readonly float[] sampledFloors = new float[SampledRows];
    private int sampledK;

    /// <summary>Norm that int16 values of a row may have.</summary>
    private readonly float mostNorm;

    /// <summary>The largest |δ| of a latent over its scale times <see cref="mostNorm"/>.</summary>
    private float weightError;
    private long rescored;
    private float* W_encFD;

    /// <param name="width">D.</param>
    /// <param name="features">F.</param>
    /// <param name="simd">Which form runs; all give the same.</param>
    public EncoderScreen(int width, int features, SimdWidth simd)
    {
        (this.width, this.features, this.simd) = (width, features, simd);
        pairs = (width + 1) / 2;
        latentsPerTile = simd switch
        {
            SimdWidth.Vector512 => ScreenTile512.Latents,
            SimdWidth.Vector256 => ScreenTile256.Latents,
            _ => ScreenTileScalar.Latents,
        };
        // Rounding adds at most 1/2 to each of D values, √D / 2 to the norm.
        mostNorm = MathF.Floor(MathF.Sqrt(int.MaxValue) - (MathF.Sqrt(width) / 2)) - 1;
        int rows = Math.Clamp(RowBytesAtATime / (pairs * sizeof(int)), IScreenTile.Rows, MostRowsAtATime);
        rowsAtATime = rows / IScreenTile.Rows * IScreenTile.Rows;
        int padded = Tiles * latentsPerTile;
        weights = new((long)padded * pairs);
        scales = new(padded);
        biases = new(padded);
        new Span<float>(biases.Pointer, padded).Fill(float.NegativeInfinity); // latents that pad the last tile never pass
    }

    /// <summary>Bounds of the scores of the latents watched, of the batch last selected from.</summary>
    public WatchedScores Watched { get; } = new();

    /// <summary>Scores computed in float32 by the last selection; B x F without screening.</summary>
    public long Rescored => rescored;

    private int Tiles => (features + latentsPerTile - 1) / latentsPerTile;

    /// <summary>Takes over weights and biases.</summary>
    /// <param name="W_encFD">Row-major [F, D]; must stay, unchanged, until the selections after this call are done.</param>
    /// <param name="b_encF">[F].</param>
    /// <param name="threads">How many to use.</param>
    /// <returns>The first latent with a weight or bias that is not finite; null where all are.</returns>
    public int? Load(float* W_encFD, float* b_encF, int threads)
    {
        this.W_encFD = W_encFD;
        var errors = new float[Tiles];
        int notFinite = int.MaxValue;
        var tileLock = new Lock();
        Pieces.Run(
            Tiles,
            1,
            threads,
            () => new short[latentsPerTile * 2 * pairs],
            (tile, _, quantised) =>
            {
                int first = tile * latentsPerTile;
                int count = Math.Min(latentsPerTile, features - first);
                for (int l = 0; l < count; l++)
                {
                    var row = new ReadOnlySpan<float>(W_encFD + ((long)(first + l) * width), width);
                    var (scale, error, _) = Quantise(row, quantised.AsSpan(l * 2 * pairs, 2 * pairs));
                    if (!float.IsFinite(scale) || !float.IsFinite(b_encF[first + l]))
                    {
                        lock (tileLock)
                        {
                            notFinite = Math.Min(notFinite, first + l);
                        }
                    }
                    scales.Pointer[first + l] = scale;
                    biases.Pointer[first + l] = b_encF[first + l];
                    errors[tile] = Math.Max(errors[tile], error / (scale * mostNorm));
                }
                Interleave(quantised, latentsPerTile, weights.Pointer + ((long)first * pairs));
            },
            _ => { }
        );
        weightError = errors.Max();
        return notFinite == int.MaxValue ? null : notFinite;
    }

    /// <summary>Has the next selections leave these latents' scores in <see cref="Watched"/>, as bounds.</summary>
    /// <param name="latentsN">Ascending; none to watch none.</param>
    public void Watch(ReadOnlySpan<int> latentsN) => Watched.Watch(latentsN, Tiles, latentsPerTile);

    /// <summary>The <paramref name="k"/> largest positive scores of each row.</summary>
    /// <param name="xBD">Row-major [B, D], finite; b_dec is already subtracted.</param>
    /// <param name="k">K, at most F.</param>
    /// <param name="threads">How many to use.</param>
    /// <param name="kept">Receives them; room for B x K.</param>
    public void SelectOfEachRow(float* xBD, int k, int threads, SparseRows kept)
    {
        ArgumentNullException.ThrowIfNull(kept);
        rescored = 0;
        int rows = kept.Rows;
        ForEachRow(
            xBD,
            rows,
            k,
            GuessFloors(xBD, rows, k, threads),
            threads,
            WatchedOf(rows),
            (row, found) =>
            {
                int sample = (int)((long)row * SampledRows / rows);
                if (row == RowOfSample(sample, rows))
                {
                    sampledFloors[sample] = FloorOverScale(found, k);
                }
                kept.FirstB[row] = row * k;
                kept.EndB[row] = (row * k) + Rescore(xBD + ((long)row * width), found, row * k, k, kept);
            }
        );
    }

    /// <summary>The B x <paramref name="k"/> largest positive scores of the batch; of equal ones those of earlier rows.</summary>
    /// <param name="xBD">Row-major [B, D], finite; b_dec is already subtracted.</param>
    /// <param name="k">K, on average.</param>
    /// <param name="threads">How many to use.</param>
    /// <param name="kept">Receives them; room for B x K.</param>
    public void SelectOverBatch(float* xBD, int k, int threads, SparseRows kept)
    {
        ArgumentNullException.ThrowIfNull(kept);
        rescored = 0;
        int rows = kept.Rows;
        while (batchRows.Count < rows)
        {
            batchRows.Add(new ScreenedRow(simd));
        }
        // Only what may exceed a floor is kept as rows pass by; a floor guessed too high is lowered, and they pass by again.
        int wanted = rows * k;
        float floor = GuessFloor(xBD, rows, k, threads);
        var watched = WatchedOf(rows);
        while (true)
        {
            ForEachRow(xBD, rows, 0, new Floors(floor, 0), threads, watched, null);
            var least = Gather(rows, floor, threads);
            if (least.Length >= wanted || floor == float.Epsilon)
            {
                floor = least.Length > wanted ? ThresholdSelect.NthLargest(least, wanted) : floor;
                break;
            }
            floor = floor < 1e-6f ? float.Epsilon : floor / 2;
        }
        ForEach(
            rows,
            threads,
            row =>
            {
                batchRows[row].KeepFrom(floor);
                Score(xBD + ((long)row * width), batchRows[row]);
            }
        );
        KeepOfBatch(Gather(rows, float.Epsilon, threads), wanted, kept);
    }

    public void Dispose()
    {
        Watched.Dispose();
        weights.Dispose();
        scales.Dispose();
        biases.Dispose();
        foreach (var scratch in scratches)
        {
            scratch.Dispose();
        }
    }

    /// <summary>Ready for a batch; null where no latent is watched.</summary>
    private WatchedScores? WatchedOf(int rows)
    {
        Watched.Begin(rows, scales.Pointer, biases.Pointer);
        return Watched.Latents.IsEmpty ? null : Watched;
    }

    /// <summary>Screens rows in parallel; <paramref name="screened"/> is called for each on its thread, if given.</summary>
    private void ForEachRow(
        float* xBD,
        int rows,
        int k,
        Floors floors,
        int threads,
        WatchedScores? watched,
        Action<int, ScreenedRow>? screened
    )
    {
        int rowTiles = (rows + IScreenTile.Rows - 1) / IScreenTile.Rows;
        int tilesAtATime = rowsAtATime / IScreenTile.Rows;
        int rounds = (rowTiles + (tilesAtATime * threads) - 1) / (tilesAtATime * threads);
        int chunks = Math.Min(rowTiles, rounds * threads); // alike in size, as many for each thread
        Pieces.Run(
            chunks,
            1,
            threads,
            () => scratches.TryTake(out var idle) ? idle : new Scratch(this),
            (chunk, _, scratch) =>
            {
                int first = (int)((long)rowTiles * chunk / chunks) * IScreenTile.Rows;
                int end = Math.Min(rows, (int)((long)rowTiles * (chunk + 1) / chunks) * IScreenTile.Rows);
                var pool = k > 0 ? scratch.Rows.AsSpan() : CollectionsMarshal.AsSpan(batchRows)[first..];
                var found = pool[..(end - first)];
                Screen(scratch, xBD, first, found, k, floors, watched);
                for (int row = first; row < end && screened is not null; row++)
                {
                    if (!found[row - first].KeepWhatMayBeLargest())
                    {
                        Screen(scratch, xBD, row, found.Slice(row - first, 1), k, Floors.Lowest, null);
                        found[row - first].KeepWhatMayBeLargest();
                    }
                    screened(row, found[row - first]);
                }
            },
            scratches.Add
        );
    }

    /// <summary>Screens the rows from <paramref name="first"/> on, as many as <paramref name="found"/> has.</summary>
    private void Screen(
        Scratch scratch,
        float* xBD,
        int first,
        ReadOnlySpan<ScreenedRow> found,
        int k,
        Floors floors,
        WatchedScores? watched
    )
    {
        var quantised = scratch.Quantised.AsSpan();
        quantised.Clear();
        for (int row = 0; row < found.Length; row++)
        {
            var x = new ReadOnlySpan<float>(xBD + ((long)(first + row) * width), width);
            var (scale, error, norm) = Quantise(x, quantised.Slice(row * 2 * pairs, 2 * pairs));
            // |w| <= latent's scale x mostNorm, and |t p| <= |x| + |ε|. A float32 sum in any order is off by D roundings.
            double slack = error + (weightError * (norm + error)) + ((width + 16) * HalfUlp * norm);
            found[row].Begin(scale, (float)(mostNorm * slack * 1.0001), k, floors.Of(scale));
            watched?.Begin(first + row, found[row].Scale, found[row].Slack);
        }
        int tiles = (found.Length + IScreenTile.Rows - 1) / IScreenTile.Rows;
        for (int tile = 0; tile < tiles; tile++)
        {
            Interleave(
                quantised.Slice(tile * IScreenTile.Rows * 2 * pairs, IScreenTile.Rows * 2 * pairs),
                IScreenTile.Rows,
                scratch.Packed.Pointer + ((long)tile * IScreenTile.Rows * pairs)
            );
        }
        switch (simd)
        {
            case SimdWidth.Vector512:
                Multiply<ScreenTile512>(scratch, first, found, tiles, watched);
                break;
            case SimdWidth.Vector256:
                Multiply<ScreenTile256>(scratch, first, found, tiles, watched);
                break;
            default:
                Multiply<ScreenTileScalar>(scratch, first, found, tiles, watched);
                break;
        }
    }

    private void Multiply<TTile>(
        Scratch scratch,
        int firstRow,
        ReadOnlySpan<ScreenedRow> found,
        int tiles,
        WatchedScores? watched
    )
        where TTile : struct, IScreenTile
    {
        int* sums = scratch.Sums.Pointer;
        for (int first = 0; first < features; first += TTile.Latents)
        {
            int* tileWeights = weights.Pointer + ((long)first * pairs);
            for (int tile = 0; tile < tiles; tile++)
            {
                TTile.Multiply(
                    scratch.Packed.Pointer + ((long)tile * IScreenTile.Rows * pairs),
                    tileWeights,
                    pairs,
                    sums
                );
                int rows = Math.Min(IScreenTile.Rows, found.Length - (tile * IScreenTile.Rows));
                for (int r = 0; r < rows; r++)
                {
                    found[(tile * IScreenTile.Rows) + r]
                        .Collect<TTile>(
                            sums + (r * TTile.Latents),
                            scales.Pointer + first,
                            biases.Pointer + first,
                            first
                        );
                }
                watched?.Take(firstRow + (tile * IScreenTile.Rows), first, sums, TTile.Latents);
            }
        }
    }

    /// <summary>
    /// Values as integers times a scale, so that their norm is at most <see cref="mostNorm"/> and each fits into an int16.
    /// </summary>
    /// <param name="valuesD">Values.</param>
    /// <param name="quantised">Receives the integers.</param>
    /// <returns>The scale, not finite where a value is not; the norm of what they are off by; the values' own.</returns>
    private (float Scale, float Error, float Norm) Quantise(ReadOnlySpan<float> valuesD, Span<short> quantised)
    {
        float norm = Norm(valuesD);
        float largest = MathF.Abs(TensorPrimitives.MaxMagnitude(valuesD));
        float scale = Math.Max(SmallestScale, Math.Max(norm / mostNorm, largest / short.MaxValue));
        if (!float.IsFinite(scale))
        {
            return (scale, scale, scale);
        }
        Span<float> rounded = width <= 8192 ? stackalloc float[width] : new float[width];
        TensorPrimitives.Multiply(valuesD, 1 / scale, rounded);
        TensorPrimitives.Round(rounded, rounded);
        ToInt16(rounded, quantised);
        TensorPrimitives.MultiplyAdd(rounded, -scale, valuesD, rounded);
        return (scale, Norm(rounded), norm);
    }

    private static void ToInt16(ReadOnlySpan<float> whole, Span<short> quantised)
    {
        int i = 0;
        for (; i <= whole.Length - Vector<short>.Count; i += Vector<short>.Count)
        {
            var low = Vector.ConvertToInt32(new Vector<float>(whole[i..]));
            var high = Vector.ConvertToInt32(new Vector<float>(whole[(i + Vector<float>.Count)..]));
            Vector.Narrow(low, high).CopyTo(quantised[i..]);
        }
        for (; i < whole.Length; i++)
        {
            quantised[i] = (short)whole[i];
        }
    }

    /// <summary>At least the norm, though float32 may not hold its square.</summary>
    private static float Norm(ReadOnlySpan<float> values)
    {
        float above = 1.0001f + (values.Length * HalfUlp);
        float squared = TensorPrimitives.SumOfSquares(values);
        if (squared > 1e-20f && float.IsFinite(squared))
        {
            return MathF.Sqrt(squared) * above;
        }
        double sum = 0;
        foreach (float value in values)
        {
            sum += (double)value * value;
        }
        return (float)Math.Sqrt(sum) * above;
    }

    /// <summary>[n, D] of int16 to pairs of dimensions by row, [D / 2, n].</summary>
    private void Interleave(ReadOnlySpan<short> quantised, int n, int* packed)
    {
        fixed (short* start = quantised)
        {
            int* source = (int*)start;
            for (int p = 0; p < pairs; p++, packed += n)
            {
                for (int row = 0; row < n; row++)
                {
                    packed[row] = source[((long)row * pairs) + p];
                }
            }
        }
    }

    /// <summary>Keeps the k largest positive scores of a row.</summary>
    /// <returns>How many.</returns>
    private int Rescore(float* xD, ScreenedRow found, int first, int k, SparseRows kept)
    {
        Score(xD, found);
        var values = found.PaddedValues();
        KeepLargest.Positive(values, k, simd);
        int entry = first;
        for (int i = 0; i < found.Count; i++)
        {
            if (values[i] > 0)
            {
                (kept.Latents[entry], kept.Values[entry]) = (found.Latents[i], values[i]);
                entry++;
            }
        }
        return entry - first;
    }

    /// <summary>What the n largest positive of some values reach, and how many that are just equal to it belong to them.</summary>
    /// <param name="values">Reordered.</param>
    /// <param name="n">How many.</param>
    private static (float Least, int Equal) LeastKept(Span<float> values, int n)
    {
        float least = values.Length > n ? ThresholdSelect.NthLargest(values, n) : 0;
        if (least <= 0)
        {
            return (float.Epsilon, int.MaxValue); // no more than n are positive
        }
        int equal = n;
        foreach (float value in values)
        {
            equal -= value > least ? 1 : 0;
        }
        return (least, equal);
    }

    /// <summary>Appends a row's candidates that reach <paramref name="least"/>, of those equal to it as many as there is room for.</summary>
    /// <returns>The end of the entries.</returns>
    private static int Keep(ScreenedRow found, float least, ref int equal, int entry, SparseRows kept)
    {
        var latents = found.Latents;
        var values = found.Values;
        for (int i = 0; i < values.Length; i++)
        {
            if (values[i] > least || (values[i] == least && equal-- > 0))
            {
                (kept.Latents[entry], kept.Values[entry]) = (latents[i], values[i]);
                entry++;
            }
        }
        return entry;
    }

    /// <summary>Makes the candidates' values their scores in float32.</summary>
    private void Score(float* xD, ScreenedRow found)
    {
        var values = found.Values;
        GatheredRows.Dot(W_encFD, found.Latents, new(xD, width), values, simd);
        for (int i = 0; i < values.Length; i++)
        {
            values[i] += biases.Pointer[found.Latents[i]];
        }
        Interlocked.Add(ref rescored, values.Length);
    }

    /// <summary>Somewhat less than what would be each row's least value kept, were all rows like a few but for their norm.</summary>
    private Floors GuessFloors(float* xBD, int rows, int k, int threads)
    {
        if (rows < 16 * SampledRows)
        {
            return Floors.Lowest;
        }
        if (sampledK != k)
        {
            Sample(xBD, rows, k, threads, (sample, found) => sampledFloors[sample] = FloorOverScale(found, k));
            sampledK = k;
        }
        return new Floors(float.Epsilon, GuessUsed * sampledFloors.Min());
    }

    private static float FloorOverScale(ScreenedRow found, int k) => found.Count < k ? 0 : found.Floor / found.Scale;

    /// <summary>Samples lie all over a batch.</summary>
    private static int RowOfSample(int sample, int rows) => (int)((long)rows * sample / SampledRows);

    /// <summary>Somewhat less than what would be the least value kept of the batch, were all rows like a few.</summary>
    private float GuessFloor(float* xBD, int rows, int k, int threads)
    {
        int sampled = Math.Min(SampledRows, rows);
        var leastOf = new float[sampled][];
        Sample(xBD, rows, Math.Min(features, 4 * k), threads, (row, found) => leastOf[row] = [.. found.Values]);
        float[] least = [.. leastOf.SelectMany(values => values)];
        float guess = least.Length < sampled * k ? 0 : GuessUsed * ThresholdSelect.NthLargest(least, sampled * k);
        return Math.Max(float.Epsilon, guess);
    }

    /// <summary>Screens a few rows from all over the batch.</summary>
    private void Sample(float* xBD, int rows, int k, int threads, Action<int, ScreenedRow> screened)
    {
        int sampled = Math.Min(SampledRows, rows);
        using var sample = new AlignedMemory<float>((long)sampled * width);
        for (int i = 0; i < sampled; i++)
        {
            long row = rows < SampledRows ? i : RowOfSample(i, rows);
            new ReadOnlySpan<float>(xBD + (row * width), width).CopyTo(new(sample.Pointer + ((long)i * width), width));
        }
        ForEachRow(sample.Pointer, sampled, k, Floors.Lowest, threads, null, screened);
    }

    /// <summary>The batch's candidates' values that reach a floor; the caller's until the next call.</summary>
    private Span<float> Gather(int rows, float floor, int threads)
    {
        var endB = new int[rows];
        ForEach(rows, threads, row => endB[row] = Reaching(batchRows[row].Values, floor, []));
        for (int row = 1; row < rows; row++)
        {
            endB[row] += endB[row - 1];
        }
        if (gathered.Length < endB[^1])
        {
            gathered = new float[endB[^1] + (endB[^1] / 4)];
        }
        ForEach(
            rows,
            threads,
            row =>
            {
                int first = row == 0 ? 0 : endB[row - 1];
                Reaching(batchRows[row].Values, floor, gathered.AsSpan(first, endB[row] - first));
            }
        );
        return gathered.AsSpan(0, endB[^1]);
    }

    /// <summary>Counts the values that reach a floor, and copies them where there is room.</summary>
    private static int Reaching(ReadOnlySpan<float> values, float floor, Span<float> copies)
    {
        int count = 0;
        foreach (float value in values)
        {
            if (value >= floor)
            {
                if (count < copies.Length)
                {
                    copies[count] = value;
                }
                count++;
            }
        }
        return count;
    }

    private static void ForEach(int rows, int threads, Action<int> action) =>
        Pieces.Run(rows, most: 64, threads, action);

    /// <summary>Keeps the largest scores of the batch, of which <paramref name="positive"/> are all that count.</summary>
    private void KeepOfBatch(Span<float> positive, int wanted, SparseRows kept)
    {
        var (least, equal) = LeastKept(positive, wanted);
        int entry = 0;
        for (int row = 0; row < kept.Rows; row++)
        {
            kept.FirstB[row] = entry;
            entry = Keep(batchRows[row], least, ref equal, entry, kept);
            kept.EndB[row] = entry;
        }
    }

    /// <summary>What a row's scores must reach to be of interest; guessed too high, the row is screened again.</summary>
    private readonly record struct Floors(float Least, float PerScale)
    {
        /// <summary>Whatever is positive.</summary>
        public static readonly Floors Lowest = new(float.Epsilon, 0);

        public float Of(float scale) => Math.Max(Least, PerScale * scale);
    }

    /// <summary>One thread's memory.</summary>
    private sealed class Scratch(EncoderScreen screen) : IDisposable
    {
        public short[] Quantised { get; } = new short[screen.rowsAtATime * 2 * screen.pairs];

        public AlignedMemory<int> Packed { get; } = new((long)screen.rowsAtATime * screen.pairs);

        public AlignedMemory<int> Sums { get; } = new(IScreenTile.Rows * screen.latentsPerTile);

        public ScreenedRow[] Rows { get; } =
        [.. Enumerable.Range(0, screen.rowsAtATime).Select(_ => new ScreenedRow(screen.simd))];

        public void Dispose()
        {
            Packed.Dispose();
            Sums.Dispose();
        }
    }
}
