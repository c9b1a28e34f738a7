using System.Text.Json.Nodes;
using MathNet.Numerics.Statistics;
using Pipeline.Shared;
using Pipeline.Shared.Kernels;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Evaluate;

/// <summary>One document's sums.</summary>
internal delegate ReadOnlySpan<double> DocumentSums(int document);

/// <summary>
/// Percentile bootstrap over documents (Efron and Tibshirani 1993, chapter 13): tokens of one document resemble each other,
/// so whole documents are drawn, as many as there are, with replacement. Every figure is a ratio of sums and is taken anew
/// from the sums of each resample. All figures share the resamples.
/// </summary>
/// <remarks>
/// How often each document was drawn is held for a block of resamples at a time, the whole where it fits; other blocks are
/// drawn again from where the generator stood. Sums are added in the documents' order, so that neither the blocks nor the
/// number of threads make a difference.
/// </remarks>
internal sealed class Bootstrap
{
    public const int Resamples = 1000;
    public const double Confidence = 0.95;

    /// <summary>Numbers of draws held at a time: 16 MB, or one resample's.</summary>
    public const int DefaultRoom = 1 << 22;

    /// <summary>Resamples a thread takes at a time.</summary>
    private const int RowsOfPiece = 8;

    /// <summary>Documents whose sums every resample of the block takes before the next: they stay in the cache.</summary>
    private const int DocumentsAtATime = 256;

    /// <summary>Row-major [resamples of a block, documents]: how often each was drawn.</summary>
    private readonly int[] timesDrawnRN;
    private readonly int rowsOfBlock;

    /// <summary>The generator before each block.</summary>
    private readonly ulong[][] states;
    private int held;

    public Bootstrap(int documents, Xoshiro256 random, int room = DefaultRoom)
    {
        Documents = documents;
        rowsOfBlock = Math.Clamp(room / documents, 1, Resamples);
        timesDrawnRN = new int[rowsOfBlock * documents];
        states = new ulong[(Resamples + rowsOfBlock - 1) / rowsOfBlock][];
        for (held = 0; held < states.Length; held++)
        {
            states[held] = random.State;
            Draw(held, random);
        }
        held--;
    }

    public int Documents { get; }

    /// <summary>Of each resample the sums over the documents drawn, row-major [resamples, columns].</summary>
    /// <param name="sums">Where each document's are.</param>
    /// <param name="first">Of the columns wanted.</param>
    /// <param name="columns">How many.</param>
    public double[] Totals(GroupedSums sums, int first, int columns = 1) =>
        Totals(columns, document => sums.Of(Grouping.Document, document).Slice(first, columns));

    /// <summary>The same of sums that are kept elsewhere.</summary>
    public double[] Totals(int columns, DocumentSums sumsOf)
    {
        var totalsRC = new double[Resamples * columns];
        for (int block = 0; block < states.Length; block++)
        {
            Hold(block);
            int firstRow = block * rowsOfBlock;
            int rows = RowsOf(block);
            for (int firstDocument = 0; firstDocument < Documents; firstDocument += DocumentsAtATime)
            {
                int after = Math.Min(Documents, firstDocument + DocumentsAtATime);
                int from = firstDocument;
                Pieces.Run(
                    rows,
                    RowsOfPiece,
                    get_num_threads(),
                    row =>
                    {
                        var totalC = totalsRC.AsSpan((firstRow + row) * columns, columns);
                        for (int document = from; document < after; document++)
                        {
                            int times = timesDrawnRN[(row * Documents) + document];
                            if (times > 0)
                            {
                                TensorPrimitives.MultiplyAdd(sumsOf(document), times, totalC, totalC);
                            }
                        }
                    }
                );
            }
        }
        return totalsRC;
    }

    /// <summary>[low, high]: the middle 95 % of a figure's values; null where it is undefined in a resample, or for one document.</summary>
    public JsonArray? Interval(IEnumerable<double> figureR)
    {
        double[] sorted = [.. figureR.Order()];
        if (Documents < 2 || sorted.Any(value => !double.IsFinite(value)))
        {
            return null;
        }
        return [Quantile((1 - Confidence) / 2), Quantile((1 + Confidence) / 2)];

        double Quantile(double share) => SortedArrayStatistics.QuantileCustom(sorted, share, QuantileDefinition.R7);
    }

    private int RowsOf(int block) => Math.Min(rowsOfBlock, Resamples - (block * rowsOfBlock));

    private void Hold(int block)
    {
        if (block != held)
        {
            Draw(block, new Xoshiro256(0) { State = states[block] });
            held = block;
        }
    }

    private void Draw(int block, Xoshiro256 random)
    {
        Array.Clear(timesDrawnRN);
        for (int row = 0; row < RowsOf(block); row++)
        {
            var timesN = timesDrawnRN.AsSpan(row * Documents, Documents);
            for (int draw = 0; draw < Documents; draw++)
            {
                timesN[random.NextInt(Documents)]++;
            }
        }
    }
}
