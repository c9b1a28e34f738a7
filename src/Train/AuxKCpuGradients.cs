using System.Collections.Concurrent;
using System.Numerics;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// AuxK's loss in its normalized form and its gradients on the CPU (Gao et al. 2024, section A.2). Dead latents did not fire, so
/// that their rows have no gradient from the reconstruction, and get theirs here. Each of the five products touches only what is
/// kept, but the first, which also has the few that bounds do not decide. <see cref="Objectives.KSparseObjective.NormalizedError"/>
/// is its plain twin.
/// <code>
/// bounds of the dead's scores ─> what may be among the k_aux largest of each row   (tiles of rows in parallel)
/// their activations ─> the k_aux largest, as a mask                                (the same tiles)
/// entries ─> error of the decoded against the residual                             (the same tiles)
/// entries, errors ─> gradient rows of W_dec, gradient of each entry                (blocks of latents in parallel)
/// entries' gradients, inputs ─> gradient rows of W_enc                             (the same blocks)
/// </code>
/// Every sum runs in a fixed order, so that results do not depend on how work falls to threads.
/// </summary>
/// <remarks>Axes: B batch, D width, N latents watched, the dead and a few others, filled up to whole blocks.</remarks>
/// <param name="sae">The parameters; the gradients of the dead latents' rows are this object's to write.</param>
/// <param name="watched">Bounds of their scores.</param>
/// <param name="auxK">k_aux, latents kept of each row; all of the dead where they are fewer.</param>
/// <param name="coefficient">Of the loss in what is minimised; in the gradients, not in the loss returned.</param>
/// <param name="batch">B.</param>
/// <param name="rows">Receives what the optimizer need not find out again.</param>
/// <param name="projectionEpsilon">As <see cref="RowGradients.Measure"/> has it.</param>
internal sealed class AuxKCpuGradients(
    TopKAutoencoder sae,
    WatchedScores watched,
    int auxK,
    double coefficient,
    int batch,
    RowGradients rows,
    double? projectionEpsilon
) : IDisposable
{
    /// <summary>Rows a thread handles at a time: while they stay in its cache, all watched latents' weights pass by.</summary>
    private const int TileRows = 3 * Panels.BlockRows;

    /// <summary>Groups of latents in the gradients: few, since each reads all rows, and more than one, lest all wait for a late thread.</summary>
    private const int GroupsOfAThread = 3;

    /// <summary>Activations of a chunk; those of two exist at a time.</summary>
    private const int ChunkValues = 1 << 20;

    private readonly TopKAutoencoder sae = sae;
    private readonly Panels panels = new(sae.Width);
    private readonly int width = sae.Width;
    private readonly float[] zeros = new float[sae.Width];
    private readonly float[] meanD = new float[sae.Width];
    private readonly double[] distanceB = new double[batch]; // from the mean, squared
    private readonly double[] squaredB = new double[batch];
    private readonly AlignedMemory<float> encoder = new();
    private readonly AlignedMemory<float> encoderBias = new();
    private readonly AlignedMemory<float> decoder = new();
    private readonly AlignedMemory<float> encoderGradient = new();
    private readonly AlignedMemory<float> decoderGradient = new();
    private readonly AlignedMemory<float> biasGradient = new();
    private readonly AlignedMemory<float> errors = new();
    private readonly AlignedMemory<float> inputs = new();
    private readonly AlignedMemory<float> entries = new();
    private readonly AlignedMemory<float> entryGradients = new();
    private readonly AlignedMemory<ulong> latentMasks = new();
    private readonly ConcurrentBag<Scratch> scratches = [];

    /// <summary>Adds the gradients to those the SAE's parameters have.</summary>
    /// <param name="deadN">The dead latents, ascending; all of them were watched when the batch was selected from.</param>
    /// <param name="inputBD">What is encoded: x, or x - b_dec.</param>
    /// <param name="errorBD">x̂ - x.</param>
    /// <returns>The loss before its coefficient; 0 where nothing is dead, or nothing left to reconstruct.</returns>
    public unsafe double Add(ReadOnlySpan<int> deadN, float* inputBD, float* errorBD)
    {
        if (deadN.IsEmpty)
        {
            return 0;
        }
        int threads = get_num_threads();
        Average(errorBD, threads);
        bool[] isDeadN = FindAmongWatched(deadN);
        var shape = Shape.Of(watched, batch);
        var p = new Pointers(this, shape);
        PieceGroup.Run(InOrder(p, shape, inputBD, errorBD, threads), threads);
        double variance = distanceB.Sum() / batch;
        if (variance == 0)
        {
            return 0;
        }
        Scatter(p, shape, isDeadN, (float)(2 * coefficient / (batch * variance)), threads);
        return squaredB.Sum() / (batch * variance);
    }

    public void Dispose()
    {
        foreach (var memory in new[] { encoder, encoderBias, decoder, encoderGradient, decoderGradient, biasGradient })
        {
            memory.Dispose();
        }
        foreach (var memory in new[] { errors, inputs, entries, entryGradients })
        {
            memory.Dispose();
        }
        latentMasks.Dispose();
        foreach (var scratch in scratches)
        {
            scratch.Dispose();
        }
    }

    /// <summary>
    /// What is done, chunk after chunk, each in one of two memories. A chunk's first tiles come before the gradients of the chunk
    /// before, its others after them: what is waited for was taken long before.
    /// </summary>
    private unsafe List<PieceGroup> InOrder(Pointers p, Shape shape, float* inputBD, float* errorBD, int threads)
    {
        int groups = Math.Min(shape.LatentBlocks, GroupsOfAThread * threads);
        var gathered = new PieceGroup(shape.LatentBlocks, block => Gather(p, block));
        List<PieceGroup> order = [gathered];
        // What a memory waits for; the first two chunks' wait for the weights, which later ones have thereby.
        var (gradientsBefore, gradients) = (gathered, gathered);
        for (int chunk = 0; chunk * shape.ChunkRows < batch; chunk++)
        {
            int first = chunk * shape.ChunkRows;
            int count = Math.Min(shape.ChunkRows, batch - first);
            int place = chunk % 2 * shape.ChunkRows;
            int tiles = (count + TileRows - 1) / TileRows;
            int ahead = Math.Min(threads, tiles);
            var firstTiles = new PieceGroup(ahead, Tile, gradientsBefore);
            var otherTiles = new PieceGroup(tiles - ahead, tile => Tile(ahead + tile), gradientsBefore);
            order.Insert(Math.Max(1, order.Count - 1), firstTiles); // before the last gradients, where there are any
            (gradientsBefore, gradients) = (
                gradients,
                new PieceGroup(groups, Gradients, firstTiles, otherTiles, gradients)
            );
            order.AddRange([otherTiles, gradients]);

            void Tile(int tile)
            {
                int start = tile * TileRows;
                int rowCount = Math.Min(TileRows, count - start);
                var scratch = scratches.TryTake(out var free) ? free : new Scratch();
                RowTile(p, shape, scratch.Of(shape), inputBD, errorBD, first + start, place + start, rowCount);
                scratches.Add(scratch);
            }

            void Gradients(int group)
            {
                int firstBlock = shape.LatentBlocks * group / groups;
                int endBlock = shape.LatentBlocks * (group + 1) / groups;
                Differentiate(p, shape, firstBlock, endBlock, place / Panels.BlockRows, Panels.Down(place + count));
            }
        }
        return order;
    }

    /// <summary>The errors' mean over the batch; the residual's variance is about it.</summary>
    private unsafe void Average(float* errorBD, int threads)
    {
        Array.Clear(meanD);
        fixed (float* mean = meanD)
        {
            ColumnSums.Add(batch, row => (row, 1), errorBD, width, mean, threads);
        }
        TensorPrimitives.Divide(meanD, batch, meanD);
    }

    /// <summary>Which of the latents watched are dead; the others can no longer be kept.</summary>
    private bool[] FindAmongWatched(ReadOnlySpan<int> deadN)
    {
        var isDeadN = new bool[watched.Latents.Length];
        int found = 0;
        for (int n = 0; n < isDeadN.Length; n++)
        {
            isDeadN[n] = found < deadN.Length && watched.Latents[n] == deadN[found];
            if (isDeadN[n])
            {
                found++;
            }
            else
            {
                watched.Ignore(n);
            }
        }
        return found == deadN.Length
            ? isDeadN
            : throw new ArgumentException($"latent {deadN[found]} is dead and was not watched", nameof(deadN));
    }

    /// <summary>A block of the watched latents' weights, filled up with latents of 0, which nothing keeps; gradients of 0.</summary>
    private unsafe void Gather(Pointers p, int block)
    {
        int start = block * Panels.BlockRows;
        new Span<float>(p.BiasGradient + start, Panels.BlockRows).Clear();
        int length = (int)panels.Length(Panels.BlockRows);
        new Span<float>(p.EncoderGradient + ((long)block * length), length).Clear();
        new Span<float>(p.DecoderGradient + ((long)block * length), length).Clear();
        for (int n = start; n < start + Panels.BlockRows; n++)
        {
            bool isFilling = n >= watched.Latents.Length;
            int f = isFilling ? 0 : watched.Latents[n];
            p.EncoderBias[n] = isFilling ? 0 : p.AllEncoderBiases[f];
            panels.Put(isFilling ? zeros : RowOf(p.AllEncoder, f), p.Encoder, n);
            panels.Put(isFilling ? zeros : RowOf(p.AllDecoder, f), p.Decoder, n);
        }
    }

    /// <summary>From inputs to entries and errors of some rows of the batch.</summary>
    private unsafe void RowTile(
        Pointers p,
        Shape shape,
        TilePointers tile,
        float* inputBD,
        float* errorBD,
        int first,
        int place,
        int rowCount
    )
    {
        int rowBlocks = Panels.Down(rowCount);
        for (int row = 0; row < rowCount; row++)
        {
            panels.Put(RowOf(inputBD, first + row), p.Inputs, place + row);
            var error = RowOf(errorBD, first + row);
            panels.Put(error, p.Errors, place + row);
            double distance = TensorPrimitives.Distance(error, meanD);
            distanceB[first + row] = distance * distance;
        }
        for (int rowBlock = 0; rowBlock < rowBlocks; rowBlock++)
        {
            Screen(p, shape, tile, rowBlock, RowsOf(rowBlock), first + (rowBlock * Panels.BlockRows));
        }
        ByRows(shape, tile, place, rowCount, p.Encoder, p.Inputs, tile.Scores, product => product.Dot(Simd.Best));
        for (int rowBlock = 0; rowBlock < rowBlocks; rowBlock++)
        {
            Select(shape, tile, rowBlock, RowsOf(rowBlock));
            ByLatent(p, shape, tile, rowBlock, RowsOf(rowBlock), place / Panels.BlockRows);
        }
        // What the dead latents decode to, added to x̂ - x, is the error of their reconstruction of the residual.
        ByRows(shape, tile, place, rowCount, p.Decoder, p.Errors, tile.Kept, product => product.Accumulate(Simd.Best));
        for (int row = 0; row < rowCount; row++)
        {
            squaredB[first + row] = SumOfSquares(p, place + row);
        }

        int RowsOf(int rowBlock) => Math.Min(Panels.BlockRows, rowCount - (rowBlock * Panels.BlockRows));
    }

    private unsafe ReadOnlySpan<float> RowOf(float* valuesBD, int row) => new(valuesBD + ((long)row * width), width);

    /// <summary>Masks name what may be kept of each of a block's rows; its score is the bias so far.</summary>
    private unsafe void Screen(Pointers p, Shape shape, TilePointers tile, int rowBlock, int rowCount, int rowOfBatch)
    {
        var mostN = new Span<float>(tile.Row, shape.PaddedLatents);
        new Span<int>(tile.Written, shape.LatentBlocks).Clear();
        for (int row = 0; row < rowCount; row++)
        {
            float floor = watched.Bounds(rowOfBatch + row, auxK, mostN, Simd.Best);
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                int latent = block * Panels.BlockRows;
                ulong mask = MaskedBlock.Reaching(mostN.Slice(latent, Panels.BlockRows), floor, Simd.Best);
                float* scores = tile.Scores + shape.Entries(rowBlock, block) + tile.Written[block];
                MaskedBlock.Pack(mask, p.EncoderBias + latent, scores, Simd.Best);
                tile.Masks[shape.Masks(rowBlock, block) + row] = mask;
                tile.Written[block] += BitOperations.PopCount(mask);
            }
        }
    }

    /// <summary>Masks name the largest scores of each of a block's rows, and no others any more.</summary>
    private unsafe void Select(Shape shape, TilePointers tile, int rowBlock, int rowCount)
    {
        new Span<int>(tile.Read, shape.LatentBlocks).Clear();
        new Span<int>(tile.Written, shape.LatentBlocks).Clear();
        for (int row = 0; row < rowCount; row++)
        {
            int count = 0;
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                float* scores = tile.Scores + shape.Entries(rowBlock, block) + tile.Read[block];
                // All 48, however many are the row's: the next ones take the others' places.
                new ReadOnlySpan<float>(scores, Panels.BlockRows).CopyTo(new(tile.Row + count, Panels.BlockRows));
                int some = BitOperations.PopCount(tile.Masks[shape.Masks(rowBlock, block) + row]);
                tile.Read[block] += some;
                count += some;
            }
            KeepLargest.Positive(new(tile.Row, count), auxK, Simd.Best);
            float* score = tile.Row;
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                ulong* mask = tile.Masks + shape.Masks(rowBlock, block) + row;
                int some = BitOperations.PopCount(*mask);
                ulong kept = MaskedBlock.Reaching(new(score, Panels.BlockRows), float.Epsilon, Simd.Best);
                kept &= (1UL << some) - 1;
                float* acts = tile.Kept + shape.Entries(rowBlock, block) + tile.Written[block];
                MaskedBlock.Pack(kept, score, acts, Simd.Best);
                *mask = MaskedBlock.Among(*mask, kept, Simd.Best);
                tile.Written[block] += BitOperations.PopCount(kept);
                score += some;
            }
        }
    }

    /// <summary>A block's entries where latents are in parallel: which of its rows keep a latent, and with what activation.</summary>
    private unsafe void ByLatent(
        Pointers p,
        Shape shape,
        TilePointers tile,
        int rowBlock,
        int rowCount,
        int firstRowBlock
    )
    {
        var blockNR = new Span<float>(tile.Block, Shape.BlockEntries);
        for (int block = 0; block < shape.LatentBlocks; block++)
        {
            blockNR.Clear();
            ulong* masks = tile.Masks + shape.Masks(rowBlock, block);
            float* act = tile.Kept + shape.Entries(rowBlock, block);
            for (int row = 0; row < rowCount; row++)
            {
                for (ulong mask = masks[row]; mask != 0; mask &= mask - 1)
                {
                    tile.Block[(BitOperations.TrailingZeroCount(mask) * Panels.BlockRows) + row] = *act++;
                }
            }
            ulong* latentMasks = p.LatentMasks + shape.Masks(firstRowBlock + rowBlock, block);
            long first = shape.Entries(firstRowBlock + rowBlock, block);
            float* entries = p.Entries + first;
            for (int n = 0; n < Panels.BlockRows; n++)
            {
                float* ofLatent = tile.Block + (n * Panels.BlockRows);
                ulong mask = MaskedBlock.Reaching(new(ofLatent, Panels.BlockRows), float.Epsilon, Simd.Best);
                MaskedBlock.Pack(mask, ofLatent, entries, Simd.Best);
                latentMasks[n] = mask;
                entries += BitOperations.PopCount(mask);
            }
            new Span<float>(p.EntryGradients + first, (int)(entries - p.Entries - first)).Clear();
        }
    }

    /// <summary>Products of the tile's rows, 48 at a time, with each block of latents.</summary>
    private unsafe void ByRows(
        Shape shape,
        TilePointers tile,
        int place,
        int rowCount,
        float* latentPanels,
        float* rowPanels,
        float* entries,
        Action<MaskedBlock> multiply
    )
    {
        for (int across = 0; across < panels.Across; across++)
        {
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                if (block + 1 < shape.LatentBlocks)
                {
                    panels.Prefetch(latentPanels, block + 1, across);
                }
                for (int row = 0; row < rowCount; row += Panels.BlockRows)
                {
                    int rowBlock = row / Panels.BlockRows;
                    multiply(
                        new()
                        {
                            Masks = tile.Masks + shape.Masks(rowBlock, block),
                            Entries = entries + shape.Entries(rowBlock, block),
                            Block = latentPanels + panels.Start(block, across),
                            Targets = rowPanels + panels.Start((place + row) / Panels.BlockRows, across),
                            Width = panels.WidthOf(across),
                            TargetCount = Math.Min(Panels.BlockRows, rowCount - row),
                        }
                    );
                }
            }
        }
    }

    private unsafe double SumOfSquares(Pointers p, int row)
    {
        double squared = 0;
        for (int across = 0; across < panels.Across; across++)
        {
            int widthOf = panels.WidthOf(across);
            squared += TensorPrimitives.SumOfSquares(
                new ReadOnlySpan<float>(p.Errors + panels.Start(row, across, widthOf), widthOf)
            );
        }
        return squared;
    }

    /// <summary>
    /// Adds a chunk's part in the gradients of blocks of latents. A block of rows stays in the first-level cache while all of
    /// these pass by.
    /// </summary>
    private unsafe void Differentiate(
        Pointers p,
        Shape shape,
        int firstBlock,
        int endBlock,
        int firstRowBlock,
        int endRowBlock
    )
    {
        for (int across = 0; across < panels.Across; across++)
        {
            for (int rowBlock = firstRowBlock; rowBlock < endRowBlock; rowBlock++)
            {
                PrefetchNext(p.Errors, rowBlock, across);
                for (int block = firstBlock; block < endBlock; block++)
                {
                    ByLatents(p, shape, p.Entries, rowBlock, block, across, p.Errors, p.DecoderGradient)
                        .AccumulateAndDot(
                            p.EntryGradients + shape.Entries(rowBlock, block),
                            p.Decoder + panels.Start(block, across),
                            Simd.Best
                        );
                }
            }
        }
        for (int across = 0; across < panels.Across; across++)
        {
            for (int rowBlock = firstRowBlock; rowBlock < endRowBlock; rowBlock++)
            {
                PrefetchNext(p.Inputs, rowBlock, across);
                for (int block = firstBlock; block < endBlock; block++)
                {
                    ByLatents(p, shape, p.EntryGradients, rowBlock, block, across, p.Inputs, p.EncoderGradient)
                        .Accumulate(Simd.Best);
                }
            }
        }
        for (int rowBlock = firstRowBlock; rowBlock < endRowBlock; rowBlock++)
        {
            for (int block = firstBlock; block < endBlock; block++)
            {
                AddToBiases(p, shape, rowBlock, block);
            }
        }

        void PrefetchNext(float* rowPanels, int rowBlock, int across)
        {
            if (rowBlock + 1 < endRowBlock)
            {
                panels.Prefetch(rowPanels, rowBlock + 1, across);
            }
        }
    }

    private unsafe void AddToBiases(Pointers p, Shape shape, int rowBlock, int block)
    {
        ulong* masks = p.LatentMasks + shape.Masks(rowBlock, block);
        float* entry = p.EntryGradients + shape.Entries(rowBlock, block);
        for (int n = 0; n < Panels.BlockRows; n++)
        {
            var ofLatent = new ReadOnlySpan<float>(entry, BitOperations.PopCount(masks[n]));
            p.BiasGradient[(block * Panels.BlockRows) + n] += TensorPrimitives.Sum(ofLatent);
            entry += ofLatent.Length;
        }
    }

    private unsafe MaskedBlock ByLatents(
        Pointers p,
        Shape shape,
        float* entries,
        int rowBlock,
        int block,
        int across,
        float* rowPanels,
        float* latentPanels
    ) =>
        new()
        {
            Masks = p.LatentMasks + shape.Masks(rowBlock, block),
            Entries = entries + shape.Entries(rowBlock, block),
            Block = rowPanels + panels.Start(rowBlock, across),
            Targets = latentPanels + panels.Start(block, across),
            Width = panels.WidthOf(across),
            TargetCount = Panels.BlockRows,
        };

    /// <summary>To the gradients' own places, times what all of them have for a factor.</summary>
    private unsafe void Scatter(Pointers p, Shape shape, bool[] isDeadN, float scale, int threads)
    {
        Pieces.Run(
            shape.LatentBlocks,
            threads,
            block =>
            {
                int end = Math.Min(isDeadN.Length, (block + 1) * Panels.BlockRows);
                for (int n = block * Panels.BlockRows; n < end; n++)
                {
                    if (isDeadN[n])
                    {
                        ScatterRow(p, n, watched.Latents[n], scale);
                    }
                }
            }
        );
        if (sae.SubtractsDecoderBias)
        {
            // Of those that are not dead the gradient is 0.
            ColumnSums.Add(
                isDeadN.Length,
                n => (watched.Latents[n], -scale * p.BiasGradient[n]),
                p.AllEncoder,
                width,
                p.DecoderBiasGradient,
                threads
            );
        }
    }

    private unsafe void ScatterRow(Pointers p, int n, int f, float scale)
    {
        var encoderRow = new Span<float>(p.AllEncoderGradients + ((long)f * width), width);
        var decoderRow = new Span<float>(p.AllDecoderGradients + ((long)f * width), width);
        panels.Take(p.EncoderGradient, n, encoderRow);
        panels.Take(p.DecoderGradient, n, decoderRow);
        TensorPrimitives.Multiply(encoderRow, scale, encoderRow);
        TensorPrimitives.Multiply(decoderRow, scale, decoderRow);
        p.AllEncoderBiasGradients[f] = scale * p.BiasGradient[n];
        rows.Measure(f, encoderRow, decoderRow, RowOf(p.AllDecoder, f), projectionEpsilon);
    }

    /// <summary>How much is handled at a time.</summary>
    /// <param name="LatentBlocks">Blocks that the latents watched fill.</param>
    /// <param name="ChunkRows">Rows of a chunk.</param>
    /// <param name="Places">Rows there is memory for: those of two chunks, where there are as many.</param>
    private sealed record Shape(int LatentBlocks, int ChunkRows, int Places)
    {
        /// <summary>Of a block of rows with a block of latents.</summary>
        public const int BlockEntries = Panels.BlockRows * Panels.BlockRows;

        /// <summary>Room for as many: what puts the last together may write as much as they would all be.</summary>
        private const int BlockRoom = BlockEntries + Panels.BlockRows;

        public int PaddedLatents => LatentBlocks * Panels.BlockRows;

        /// <summary>
        /// Where the entries of a block of rows with a block of latents begin. They lie together: those of a chunk's rows with a
        /// thread's latents stay in the second-level cache while the columns pass by.
        /// </summary>
        public long Entries(int rowBlock, int block) => (((long)rowBlock * LatentBlocks) + block) * BlockRoom;

        /// <summary>Where their masks begin, one for each of the block's rows, or of its latents.</summary>
        public long Masks(int rowBlock, int block) => (((long)rowBlock * LatentBlocks) + block) * Panels.BlockRows;

        /// <summary>Chunks of whole tiles, of equal size but for the last.</summary>
        public static Shape Of(WatchedScores watched, int batch)
        {
            int blocks = watched.Padded / Panels.BlockRows;
            long values = (long)batch * blocks * Panels.BlockRows;
            int chunks = (int)((values + ChunkValues - 1) / ChunkValues);
            int chunkRows = ((batch + chunks - 1) / chunks + TileRows - 1) / TileRows * TileRows;
            return new Shape(blocks, chunkRows, Math.Min(2, (batch + chunkRows - 1) / chunkRows) * chunkRows);
        }
    }

    /// <summary>A thread's memory for a tile.</summary>
    private sealed class Scratch : IDisposable
    {
        private readonly AlignedMemory<float> row = new();
        private readonly AlignedMemory<float> scores = new();
        private readonly AlignedMemory<float> kept = new();
        private readonly AlignedMemory<ulong> masks = new();
        private readonly AlignedMemory<int> read = new();
        private readonly AlignedMemory<int> written = new();
        private readonly AlignedMemory<float> block = new(Shape.BlockEntries);

        public unsafe TilePointers Of(Shape shape)
        {
            int rowBlocks = Panels.Down(TileRows);
            return new()
            {
                Row = row.AtLeast(shape.PaddedLatents + Panels.BlockRows),
                Scores = scores.AtLeast(shape.Entries(rowBlocks, 0)),
                Kept = kept.AtLeast(shape.Entries(rowBlocks, 0)),
                Masks = masks.AtLeast(shape.Masks(rowBlocks, 0)),
                Read = read.AtLeast(shape.LatentBlocks),
                Written = written.AtLeast(shape.LatentBlocks),
                Block = block.Pointer,
            };
        }

        public void Dispose()
        {
            foreach (var memory in new[] { row, scores, kept, block })
            {
                memory.Dispose();
            }
            masks.Dispose();
            read.Dispose();
            written.Dispose();
        }
    }

    private readonly unsafe struct TilePointers
    {
        /// <summary>Of one row what its scores may be at the most, [N], then those there are.</summary>
        public required float* Row { get; init; }

        /// <summary>Of what may be kept, as <see cref="Shape.Entries"/> has them.</summary>
        public required float* Scores { get; init; }

        /// <summary>The largest of them.</summary>
        public required float* Kept { get; init; }

        /// <summary>Which latents' a row has of either, as <see cref="Shape.Masks"/> has them.</summary>
        public required ulong* Masks { get; init; }

        /// <summary>How many entries of earlier rows were read, [blocks of latents].</summary>
        public required int* Read { get; init; }

        /// <summary>How many were written.</summary>
        public required int* Written { get; init; }

        /// <summary>Of a block of latents with one of rows, [48, 48].</summary>
        public required float* Block { get; init; }
    }

    /// <summary>Where the values lie; the tensors outlive the call. "All" are the SAE's own, the rest the watched latents'.</summary>
    private readonly unsafe struct Pointers(AuxKCpuGradients owner, Shape shape)
    {
        public readonly float* AllEncoder = CpuKernels.Floats(owner.sae.W_enc);
        public readonly float* AllEncoderBiases = CpuKernels.Floats(owner.sae.b_enc);
        public readonly float* AllDecoder = CpuKernels.Floats(owner.sae.W_dec);
        public readonly float* AllEncoderGradients = CpuKernels.Floats(owner.sae.W_enc.grad!);
        public readonly float* AllEncoderBiasGradients = CpuKernels.Floats(owner.sae.b_enc.grad!);
        public readonly float* AllDecoderGradients = CpuKernels.Floats(owner.sae.W_dec.grad!);
        public readonly float* DecoderBiasGradient = CpuKernels.Floats(owner.sae.b_dec.grad!);

        public readonly float* EncoderBias = owner.encoderBias.AtLeast(shape.PaddedLatents);
        public readonly float* BiasGradient = owner.biasGradient.AtLeast(shape.PaddedLatents);

        /// <summary>Panels of the watched latents' rows.</summary>
        public readonly float* Encoder = owner.encoder.AtLeast(owner.panels.Length(shape.PaddedLatents));
        public readonly float* Decoder = owner.decoder.AtLeast(owner.panels.Length(shape.PaddedLatents));
        public readonly float* EncoderGradient = owner.encoderGradient.AtLeast(
            owner.panels.Length(shape.PaddedLatents)
        );
        public readonly float* DecoderGradient = owner.decoderGradient.AtLeast(
            owner.panels.Length(shape.PaddedLatents)
        );

        /// <summary>Panels of two chunks' rows.</summary>
        public readonly float* Errors = owner.errors.AtLeast(owner.panels.Length(shape.Places));
        public readonly float* Inputs = owner.inputs.AtLeast(owner.panels.Length(shape.Places));

        /// <summary>As <see cref="Shape.Entries"/> has them.</summary>
        public readonly float* Entries = owner.entries.AtLeast(shape.Entries(Panels.Down(shape.Places), 0));

        /// <summary>The same of the loss's gradients to them.</summary>
        public readonly float* EntryGradients = owner.entryGradients.AtLeast(
            shape.Entries(Panels.Down(shape.Places), 0)
        );

        /// <summary>Which rows have an entry of a latent, as <see cref="Shape.Masks"/> has them.</summary>
        public readonly ulong* LatentMasks = owner.latentMasks.AtLeast(shape.Masks(Panels.Down(shape.Places), 0));
    }
}
