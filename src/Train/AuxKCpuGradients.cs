using System.Collections.Concurrent;
using System.Numerics;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// AuxK's loss in its normalized form and its gradients on the CPU (Gao et al. 2024, section A.2). Dead latents did not fire, so
/// that their rows have no gradient from the reconstruction, and get theirs here. Encoding is a dense product over the dead; the
/// other four touch only what is kept. <see cref="Objectives.KSparseObjective.NormalizedError"/> is its plain twin.
/// <code>
/// activations of the dead ─> the k_aux largest of each row, as a mask              (a chunk's tiles of rows in parallel)
/// entries ─> error of the decoded against the residual                             (the same tiles)
/// entries, errors ─> gradient rows of W_dec, gradient of each entry                (blocks of latents in parallel)
/// entries' gradients, inputs ─> gradient rows of W_enc                             (the same blocks)
/// </code>
/// Every sum runs in a fixed order, so that results do not depend on how work falls to threads.
/// </summary>
/// <param name="sae">The parameters; the gradients of the dead latents' rows are this object's to write.</param>
/// <param name="auxK">k_aux, latents kept of each row; all of the dead where they are fewer.</param>
/// <param name="coefficient">Of the loss in what is minimised; in the gradients, not in the loss returned.</param>
/// <param name="batch">B.</param>
/// <param name="rows">Receives what the optimizer need not find out again.</param>
/// <param name="projectionEpsilon">As <see cref="RowGradients.Measure"/> has it.</param>
internal sealed class AuxKCpuGradients(
    TopKAutoencoder sae,
    int auxK,
    double coefficient,
    int batch,
    RowGradients rows,
    double? projectionEpsilon
) : IDisposable
{
    /// <summary>Rows a thread handles at a time: while they stay in its cache, all dead latents' weights pass by.</summary>
    private const int TileRows = 2 * Panels.BlockRows;

    /// <summary>Activations that exist at a time.</summary>
    private const int ChunkValues = 1 << 21;

    private readonly TopKAutoencoder sae = sae;
    private readonly Panels panels = new(sae.Width);
    private readonly int width = sae.Width;
    private readonly float[] zeros = new float[sae.Width];
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
    /// <param name="deadN">The dead latents, ascending.</param>
    /// <param name="inputBD">What is encoded: x, or x - b_dec.</param>
    /// <param name="errorBD">x̂ - x.</param>
    /// <returns>The loss before its coefficient; 0 where nothing is dead, or nothing left to reconstruct.</returns>
    public unsafe double Add(ReadOnlyMemory<int> deadN, float* inputBD, float* errorBD)
    {
        double variance = deadN.IsEmpty ? 0 : Variance(errorBD);
        if (variance == 0)
        {
            return 0;
        }
        int threads = get_num_threads();
        var shape = Shape.Of(deadN.Length, batch, threads);
        var p = new Pointers(this, shape);
        Pieces.Run(shape.LatentBlocks, threads, block => Gather(p, shape, deadN.Span, block));
        double scale = 2 * coefficient / (batch * variance);
        for (int first = 0; first < batch; first += shape.ChunkRows)
        {
            int count = Math.Min(shape.ChunkRows, batch - first);
            Pieces.Run(
                (count + TileRows - 1) / TileRows,
                threads,
                tile =>
                {
                    var scratch = scratches.TryTake(out var free) ? free : new Scratch();
                    RowTile(
                        p,
                        shape,
                        scratch.Of(shape, width),
                        inputBD,
                        errorBD,
                        first,
                        tile * TileRows,
                        count,
                        (float)scale
                    );
                    scratches.Add(scratch);
                }
            );
            int groups = Math.Min(shape.LatentBlocks, threads); // few, since each reads all rows
            Pieces.Run(
                groups,
                threads,
                group =>
                {
                    int end = shape.LatentBlocks * (group + 1) / groups;
                    Differentiate(p, shape, shape.LatentBlocks * group / groups, end, count);
                }
            );
        }
        Scatter(p, shape, deadN, threads);
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

    /// <summary>Σ over D of the residual's variance about its mean over the batch.</summary>
    private unsafe double Variance(float* errorBD)
    {
        var meanD = new float[width];
        fixed (float* mean = meanD)
        {
            ColumnSums.Add(batch, row => (row, 1), errorBD, width, mean, get_num_threads());
        }
        TensorPrimitives.Divide(meanD, batch, meanD);
        Pieces.Run(
            batch,
            TileRows,
            get_num_threads(),
            row =>
            {
                double distance = TensorPrimitives.Distance(RowOf(errorBD, row), meanD);
                squaredB[row] = distance * distance;
            }
        );
        return squaredB.Sum() / batch;
    }

    /// <summary>A block of the dead latents' weights, filled up with latents of 0, which nothing keeps; gradients of 0.</summary>
    private unsafe void Gather(Pointers p, Shape shape, ReadOnlySpan<int> deadN, int block)
    {
        int start = block * Panels.BlockRows;
        new Span<float>(p.BiasGradient + start, Panels.BlockRows).Clear();
        int length = (int)panels.Length(Panels.BlockRows);
        new Span<float>(p.EncoderGradient + ((long)block * length), length).Clear();
        new Span<float>(p.DecoderGradient + ((long)block * length), length).Clear();
        for (int n = start; n < start + Panels.BlockRows; n++)
        {
            bool isFilling = n >= deadN.Length;
            int f = isFilling ? 0 : deadN[n];
            p.EncoderBias[n] = isFilling ? 0 : p.AllEncoderBiases[f];
            var encoderRow = isFilling ? zeros : new ReadOnlySpan<float>(p.AllEncoder + ((long)f * width), width);
            var decoderRow = isFilling ? zeros : new ReadOnlySpan<float>(p.AllDecoder + ((long)f * width), width);
            DenseTile.Put(encoderRow, p.Encoder, n, DenseTile.Columns);
            panels.Put(decoderRow, p.Decoder, n);
        }
    }

    /// <summary>A tile of the chunk that begins with row <paramref name="first"/> of the batch: from inputs to entries and their gradients.</summary>
    private unsafe void RowTile(
        Pointers p,
        Shape shape,
        TilePointers tile,
        float* inputBD,
        float* errorBD,
        int first,
        int start,
        int count,
        float scale
    )
    {
        int rowCount = Math.Min(count - start, TileRows);
        for (int row = 0; row < rowCount; row++)
        {
            var input = RowOf(inputBD, first + start + row);
            DenseTile.Put(input, tile.Inputs, row, DenseTile.Rows);
            panels.Put(input, p.Inputs, start + row);
            panels.Put(RowOf(errorBD, first + start + row), p.Errors, start + row);
        }
        Encode(p, shape, tile, rowCount);
        for (int row = 0; row < rowCount; row++)
        {
            Select(shape, tile, row);
        }
        ByLatent(p, shape, tile, start, rowCount);
        Decode(p, shape, tile, start, rowCount);
        for (int row = start; row < start + rowCount; row++)
        {
            squaredB[first + row] = SquareAndScale(p, row, scale);
        }
    }

    private unsafe ReadOnlySpan<float> RowOf(float* valuesBD, int row) => new(valuesBD + ((long)row * width), width);

    private unsafe void Encode(Pointers p, Shape shape, TilePointers tile, int rowCount)
    {
        for (int block = 0; block < shape.LatentBlocks; block++)
        {
            int latent = block * Panels.BlockRows;
            for (int row = 0; row < rowCount; row += DenseTile.Rows)
            {
                DenseTile.Multiply(
                    tile.Inputs + ((long)row * width),
                    p.Encoder + ((long)latent * width),
                    p.EncoderBias + latent,
                    width,
                    tile.Acts + ((long)row * shape.Stride) + latent,
                    shape.Stride,
                    Simd.Best
                );
            }
        }
    }

    private unsafe void Select(Shape shape, TilePointers tile, int row)
    {
        var actsN = new Span<float>(tile.Acts + ((long)row * shape.Stride), shape.PaddedLatents);
        KeepLargest.Positive(actsN, auxK, Simd.Best);
        for (int block = 0; block < shape.LatentBlocks; block++)
        {
            tile.Masks[(row * shape.LatentBlocks) + block] = MaskedBlock.Positive(
                actsN.Slice(block * Panels.BlockRows, Panels.BlockRows),
                Simd.Best
            );
        }
    }

    /// <summary>The tile's entries where latents are in parallel: which rows of each block keep a latent, and with what activation.</summary>
    private unsafe void ByLatent(Pointers p, Shape shape, TilePointers tile, int start, int rowCount)
    {
        for (int row = 0; row < rowCount; row++)
        {
            int rowBlock = (start + row) / Panels.BlockRows;
            int inBlock = row % Panels.BlockRows;
            ulong* masks = p.LatentMasks + ((long)rowBlock * shape.PaddedLatents);
            if (inBlock == 0)
            {
                new Span<ulong>(masks, shape.PaddedLatents).Clear();
                new Span<float>(
                    p.EntryGradients + shape.Entries(rowBlock, 0),
                    shape.LatentBlocks * Shape.BlockEntries
                ).Clear();
            }
            float* acts = tile.Acts + ((long)row * shape.Stride);
            float* entries = p.Entries + shape.Entries(rowBlock, 0) + inBlock;
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                ulong mask = tile.Masks[(row * shape.LatentBlocks) + block];
                for (; mask != 0; mask &= mask - 1)
                {
                    int latent = (block * Panels.BlockRows) + BitOperations.TrailingZeroCount(mask);
                    masks[latent] |= 1UL << inBlock;
                    entries[(long)latent * Panels.BlockRows] = acts[latent];
                }
            }
        }
    }

    /// <summary>Adds what the dead latents decode to x̂ - x: the error of their reconstruction of the residual.</summary>
    private unsafe void Decode(Pointers p, Shape shape, TilePointers tile, int start, int rowCount)
    {
        for (int across = 0; across < panels.Across; across++)
        {
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                if (block + 1 < shape.LatentBlocks)
                {
                    panels.Prefetch(p.Decoder, block + 1, across);
                }
                for (int row = 0; row < rowCount; row += Panels.BlockRows)
                {
                    new MaskedBlock
                    {
                        Masks = tile.Masks + ((long)row * shape.LatentBlocks) + block,
                        MaskStep = shape.LatentBlocks,
                        Entries = tile.Acts + ((long)row * shape.Stride) + (block * Panels.BlockRows),
                        TargetStep = shape.Stride,
                        Block = p.Decoder + panels.Start(block, across),
                        Targets = p.Errors + panels.Start((start + row) / Panels.BlockRows, across),
                        Width = panels.WidthOf(across),
                        TargetCount = Math.Min(Panels.BlockRows, rowCount - row),
                    }.Accumulate(Simd.Best);
                }
            }
        }
    }

    /// <summary>The row's squared error; the error times <paramref name="scale"/> is the gradient to what was decoded.</summary>
    private unsafe double SquareAndScale(Pointers p, int row, float scale)
    {
        double squared = 0;
        for (int across = 0; across < panels.Across; across++)
        {
            int widthOf = panels.WidthOf(across);
            var part = new Span<float>(p.Errors + panels.Start(row, across, widthOf), widthOf);
            squared += TensorPrimitives.SumOfSquares<float>(part);
            TensorPrimitives.Multiply(part, scale, part);
        }
        return squared;
    }

    /// <summary>
    /// Adds a chunk's part in the gradients of blocks of latents. A block of rows stays in the first-level cache while all of
    /// these pass by.
    /// </summary>
    private unsafe void Differentiate(Pointers p, Shape shape, int firstBlock, int endBlock, int count)
    {
        int rowBlocks = Panels.Down(count);
        for (int across = 0; across < panels.Across; across++)
        {
            for (int rowBlock = 0; rowBlock < rowBlocks; rowBlock++)
            {
                for (int block = firstBlock; block < endBlock; block++)
                {
                    ByLatents(p, shape, p.Entries, rowBlock, block, across, p.Errors, p.DecoderGradient)
                        .AccumulateAndDot(
                            p.EntryGradients + shape.Entries(rowBlock, block * Panels.BlockRows),
                            p.Decoder + panels.Start(block, across),
                            Simd.Best
                        );
                }
            }
        }
        for (int across = 0; across < panels.Across; across++)
        {
            for (int rowBlock = 0; rowBlock < rowBlocks; rowBlock++)
            {
                for (int block = firstBlock; block < endBlock; block++)
                {
                    ByLatents(p, shape, p.EntryGradients, rowBlock, block, across, p.Inputs, p.EncoderGradient)
                        .Accumulate(Simd.Best);
                }
            }
        }
        for (int rowBlock = 0; rowBlock < rowBlocks; rowBlock++)
        {
            for (int latent = firstBlock * Panels.BlockRows; latent < endBlock * Panels.BlockRows; latent++)
            {
                float* ofLatent = p.EntryGradients + shape.Entries(rowBlock, latent);
                p.BiasGradient[latent] += TensorPrimitives.Sum(new ReadOnlySpan<float>(ofLatent, Panels.BlockRows));
            }
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
            Masks = p.LatentMasks + ((long)rowBlock * shape.PaddedLatents) + (block * Panels.BlockRows),
            MaskStep = 1,
            Entries = entries + shape.Entries(rowBlock, block * Panels.BlockRows),
            TargetStep = Panels.BlockRows,
            Block = rowPanels + panels.Start(rowBlock, across),
            Targets = latentPanels + panels.Start(block, across),
            Width = panels.WidthOf(across),
            TargetCount = Panels.BlockRows,
        };

    /// <summary>To the gradients' own places.</summary>
    private unsafe void Scatter(Pointers p, Shape shape, ReadOnlyMemory<int> deadN, int threads)
    {
        Pieces.Run(
            shape.LatentBlocks,
            threads,
            block =>
            {
                int end = Math.Min(deadN.Length, (block + 1) * Panels.BlockRows);
                for (int n = block * Panels.BlockRows; n < end; n++)
                {
                    int f = deadN.Span[n];
                    var encoderRow = new Span<float>(p.AllEncoderGradients + ((long)f * width), width);
                    var decoderRow = new Span<float>(p.AllDecoderGradients + ((long)f * width), width);
                    panels.Take(p.EncoderGradient, n, encoderRow);
                    panels.Take(p.DecoderGradient, n, decoderRow);
                    p.AllEncoderBiasGradients[f] = p.BiasGradient[n];
                    rows.Measure(
                        f,
                        encoderRow,
                        decoderRow,
                        new ReadOnlySpan<float>(p.AllDecoder + ((long)f * width), width),
                        projectionEpsilon
                    );
                }
            }
        );
        if (sae.SubtractsDecoderBias)
        {
            ColumnSums.Add(
                deadN.Length,
                n => (deadN.Span[n], -p.BiasGradient[n]),
                p.AllEncoder,
                width,
                p.DecoderBiasGradient,
                threads
            );
        }
    }

    /// <summary>How much is handled at a time.</summary>
    /// <param name="LatentBlocks">Blocks that the dead fill.</param>
    /// <param name="ChunkRows">Rows whose entries exist at a time.</param>
    private sealed record Shape(int LatentBlocks, int ChunkRows)
    {
        /// <summary>Of a block of rows with a block of latents.</summary>
        public const int BlockEntries = Panels.BlockRows * Panels.BlockRows;

        public int PaddedLatents => LatentBlocks * Panels.BlockRows;

        /// <summary>From a row of activations to the next: an odd number of cache lines, not a multiple of a cache's ways.</summary>
        public int Stride => ((PaddedLatents / 16) | 1) * 16;

        /// <summary>Where the entries of a block of rows with a latent begin: [blocks of rows, latents, 48].</summary>
        public long Entries(int rowBlock, int latent) => (((long)rowBlock * PaddedLatents) + latent) * Panels.BlockRows;

        /// <summary>Chunks of equal size, of as many tiles as keep all threads busy to their end.</summary>
        public static Shape Of(int dead, int batch, int threads)
        {
            int blocks = Panels.Down(dead);
            long values = (long)batch * blocks * Panels.BlockRows;
            int chunks = (int)((values + ChunkValues - 1) / ChunkValues);
            int unit = TileRows * threads;
            return new Shape(blocks, ((batch + chunks - 1) / chunks + unit - 1) / unit * unit);
        }
    }

    /// <summary>A thread's memory for a tile.</summary>
    private sealed class Scratch : IDisposable
    {
        private readonly AlignedMemory<float> inputs = new();
        private readonly AlignedMemory<float> acts = new();
        private readonly AlignedMemory<ulong> masks = new();

        public unsafe TilePointers Of(Shape shape, int width) =>
            new()
            {
                Inputs = inputs.AtLeast((long)TileRows * width),
                Acts = acts.AtLeast((long)TileRows * shape.Stride),
                Masks = masks.AtLeast((long)TileRows * shape.LatentBlocks),
            };

        public void Dispose()
        {
            inputs.Dispose();
            acts.Dispose();
            masks.Dispose();
        }
    }

    private readonly unsafe struct TilePointers
    {
        /// <summary>Packed for <see cref="DenseTile"/>.</summary>
        public required float* Inputs { get; init; }

        /// <summary>[rows, stride].</summary>
        public required float* Acts { get; init; }

        /// <summary>[rows, blocks of latents].</summary>
        public required ulong* Masks { get; init; }
    }

    /// <summary>Where the values lie; the tensors outlive the call. "All" are the SAE's own, the rest the dead latents'.</summary>
    private readonly unsafe struct Pointers(AuxKCpuGradients owner, Shape shape)
    {
        public readonly float* AllEncoder = CpuKernels.Floats(owner.sae.W_enc);
        public readonly float* AllEncoderBiases = CpuKernels.Floats(owner.sae.b_enc);
        public readonly float* AllDecoder = CpuKernels.Floats(owner.sae.W_dec);
        public readonly float* AllEncoderGradients = CpuKernels.Floats(owner.sae.W_enc.grad!);
        public readonly float* AllEncoderBiasGradients = CpuKernels.Floats(owner.sae.b_enc.grad!);
        public readonly float* AllDecoderGradients = CpuKernels.Floats(owner.sae.W_dec.grad!);
        public readonly float* DecoderBiasGradient = CpuKernels.Floats(owner.sae.b_dec.grad!);

        /// <summary>Packed for <see cref="DenseTile"/>.</summary>
        public readonly float* Encoder = owner.encoder.AtLeast((long)shape.PaddedLatents * owner.width);
        public readonly float* EncoderBias = owner.encoderBias.AtLeast(shape.PaddedLatents);
        public readonly float* BiasGradient = owner.biasGradient.AtLeast(shape.PaddedLatents);

        /// <summary>Panels of the dead latents' rows.</summary>
        public readonly float* Decoder = owner.decoder.AtLeast(owner.panels.Length(shape.PaddedLatents));
        public readonly float* EncoderGradient = owner.encoderGradient.AtLeast(
            owner.panels.Length(shape.PaddedLatents)
        );
        public readonly float* DecoderGradient = owner.decoderGradient.AtLeast(
            owner.panels.Length(shape.PaddedLatents)
        );

        /// <summary>Panels of a chunk's rows.</summary>
        public readonly float* Errors = owner.errors.AtLeast(owner.panels.Length(shape.ChunkRows));
        public readonly float* Inputs = owner.inputs.AtLeast(owner.panels.Length(shape.ChunkRows));

        /// <summary>As <see cref="Shape.Entries"/> has them; what no mask names is left over.</summary>
        public readonly float* Entries = owner.entries.AtLeast(shape.Entries(Panels.Down(shape.ChunkRows), 0));

        /// <summary>The same, with 0 where no mask names an entry.</summary>
        public readonly float* EntryGradients = owner.entryGradients.AtLeast(
            shape.Entries(Panels.Down(shape.ChunkRows), 0)
        );

        /// <summary>[blocks of a chunk's rows, latents].</summary>
        public readonly ulong* LatentMasks = owner.latentMasks.AtLeast(
            (long)Panels.Down(shape.ChunkRows) * shape.PaddedLatents
        );
    }
}
