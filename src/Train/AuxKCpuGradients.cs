using System.Numerics;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// AuxK's loss in its normalized form and its gradients on the CPU (Gao et al. 2024, section A.2). Dead latents did not fire, so
/// that their rows have no gradient from the reconstruction, and get theirs here. Encoding is libtorch's GEMM over the dead; the
/// other four products touch only what is kept. <see cref="Objectives.KSparseObjective.NormalizedError"/> is its plain twin.
/// <code>
/// chunk of rows: GEMM of the dead ─> the k_aux largest of each row, as a mask      (libtorch; then tiles of rows in parallel)
/// entries ─> error of the decoded against the residual ─> gradient of each entry   (the same tiles)
/// entries, errors, inputs ─> gradient rows of W_dec, W_enc                         (tiles of latents in parallel)
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
    /// <summary>Blocks whose targets a block from the other side is used for while it is in cache.</summary>
    private const int TileBlocks = 4;
    private const int TileRows = TileBlocks * Panels.BlockRows;

    /// <summary>Activations that exist at a time.</summary>
    private const int ChunkValues = 1 << 21;

    private readonly TopKAutoencoder sae = sae;
    private readonly Panels panels = new(sae.Width);
    private readonly int width = sae.Width;
    private readonly double[] squaredB = new double[batch];
    private readonly AlignedBuffer encoder = new();
    private readonly AlignedBuffer encoderBias = new();
    private readonly AlignedBuffer decoder = new();
    private readonly AlignedBuffer encoderGradient = new();
    private readonly AlignedBuffer decoderGradient = new();
    private readonly AlignedBuffer biasGradient = new();
    private readonly AlignedBuffer acts = new();
    private readonly AlignedBuffer actGradients = new();
    private readonly AlignedBuffer errors = new();
    private readonly AlignedBuffer inputs = new();
    private readonly AlignedBuffer rowMasks = new();
    private readonly AlignedBuffer latentMasks = new();

    /// <summary>Adds the gradients to those the SAE's parameters have.</summary>
    /// <param name="deadN">The dead latents, ascending.</param>
    /// <param name="inputBD">What is encoded: x, or x - b_dec.</param>
    /// <param name="errorBD">x̂ - x.</param>
    /// <returns>The loss before its coefficient; 0 where nothing is dead, or nothing left to reconstruct.</returns>
    public double Add(ReadOnlyMemory<int> deadN, float[] inputBD, float[] errorBD)
    {
        double variance = deadN.IsEmpty ? 0 : Variance(errorBD);
        if (variance == 0)
        {
            return 0;
        }
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var parallel = CpuKernels.Threads;
        var shape = Shape.Of(deadN.Length, batch);
        var p = new Pointers(this, shape);
        Parallel.For(0, shape.LatentBlocks, parallel, block => Gather(p, shape, deadN.Span, block));
        double scale = 2 * coefficient / (batch * variance);
        var allBD = from_array(inputBD).view(batch, width);
        for (int first = 0; first < batch; first += shape.ChunkRows)
        {
            int count = Math.Min(shape.ChunkRows, batch - first);
            acts.Floats(count, shape.Stride)
                .addmm_(allBD.narrow(0, first, count), encoder.Floats(shape.Stride, width).t(), beta: 0, alpha: 1);
            Parallel.For(
                0,
                (count + TileRows - 1) / TileRows,
                parallel,
                tile => RowTile(p, shape, inputBD, errorBD, first, tile * TileRows, count, (float)scale)
            );
            Parallel.For(
                0,
                shape.LatentTiles * panels.Across,
                parallel,
                item => GradientTile(p, shape, item / panels.Across, item % panels.Across, count)
            );
        }
        Scatter(p, shape, deadN, parallel);
        return squaredB.Sum() / (batch * variance);
    }

    public void Dispose()
    {
        foreach (
            var buffer in new[]
            {
                encoder,
                encoderBias,
                decoder,
                encoderGradient,
                decoderGradient,
                biasGradient,
                acts,
                actGradients,
                errors,
                inputs,
                rowMasks,
                latentMasks,
            }
        )
        {
            buffer.Dispose();
        }
    }

    /// <summary>Σ over D of the residual's variance about its mean over the batch.</summary>
    private double Variance(float[] errorBD)
    {
        var meanD = new float[width];
        for (int row = 0; row < batch; row++)
        {
            TensorPrimitives.Add(meanD, errorBD.AsSpan(row * width, width), meanD);
        }
        TensorPrimitives.Divide(meanD, batch, meanD);
        Parallel.For(
            0,
            batch,
            CpuKernels.Threads,
            row =>
            {
                double distance = TensorPrimitives.Distance<float>(errorBD.AsSpan(row * width, width), meanD);
                squaredB[row] = distance * distance;
            }
        );
        return squaredB.Sum() / batch;
    }

    /// <summary>A block of the dead latents' weights: the encoder's as rows for the GEMM, the decoder's as panels; gradients of 0.</summary>
    private unsafe void Gather(Pointers p, Shape shape, ReadOnlySpan<int> deadN, int block)
    {
        bool isLast = block == shape.LatentBlocks - 1;
        int start = block * Panels.BlockRows;
        int end = isLast ? shape.Stride : start + Panels.BlockRows;
        new Span<float>(p.BiasGradient + start, end - start).Clear();
        long length = panels.Length(Panels.BlockRows);
        new Span<float>(p.EncoderGradient + (block * length), (int)length).Clear();
        new Span<float>(p.DecoderGradient + (block * length), (int)length).Clear();
        for (int n = start; n < end; n++)
        {
            var encoderRow = new Span<float>(p.Encoder + ((long)n * width), width);
            p.EncoderBias[n] = n < deadN.Length ? p.AllEncoderBiases[deadN[n]] : 0;
            if (n < deadN.Length)
            {
                new ReadOnlySpan<float>(p.AllEncoder + ((long)deadN[n] * width), width).CopyTo(encoderRow);
                panels.Put(new ReadOnlySpan<float>(p.AllDecoder + ((long)deadN[n] * width), width), p.Decoder, n);
            }
            else
            {
                encoderRow.Clear(); // an activation of 0, which nothing keeps
            }
        }
    }

    /// <summary>A tile of the chunk that begins with row <paramref name="first"/> of the batch: from activations to their gradients.</summary>
    private unsafe void RowTile(
        Pointers p,
        Shape shape,
        float[] inputBD,
        float[] errorBD,
        int first,
        int start,
        int count,
        float scale
    )
    {
        int end = Math.Min(count, start + TileRows);
        for (int row = start; row < end; row++)
        {
            int at = (first + row) * width;
            panels.Put(inputBD.AsSpan(at, width), p.Inputs, row);
            panels.Put(errorBD.AsSpan(at, width), p.Errors, row);
            Select(p, shape, row);
        }
        MaskByLatent(p, shape, start, end);
        Decode(p, shape, start, end);
        for (int row = start; row < end; row++)
        {
            squaredB[first + row] = SquareAndScale(p, row, scale);
        }
        DifferentiateActs(p, shape, start, end);
    }

    private unsafe void Select(Pointers p, Shape shape, int row)
    {
        var actsN = new Span<float>(p.Acts + ((long)row * shape.Stride), shape.Stride);
        TensorPrimitives.Add(actsN, new ReadOnlySpan<float>(p.EncoderBias, shape.Stride), actsN);
        KeepLargest.Positive(actsN, auxK, Simd.Best);
        new Span<float>(p.ActGradients + ((long)row * shape.Stride), shape.Stride).Clear();
        for (int block = 0; block < shape.LatentBlocks; block++)
        {
            p.RowMasks[(row * shape.LatentBlocks) + block] = MaskedBlock.Positive(
                actsN.Slice(block * Panels.BlockRows, Panels.BlockRows),
                Simd.Best
            );
        }
    }

    /// <summary>The same masks by latent: which rows of each block of rows keep it.</summary>
    private static unsafe void MaskByLatent(Pointers p, Shape shape, int start, int end)
    {
        for (int row = start; row < end; row++)
        {
            ulong* masks = p.LatentMasks + ((long)(row / Panels.BlockRows) * shape.Stride);
            int inBlock = row % Panels.BlockRows;
            if (inBlock == 0)
            {
                new Span<ulong>(masks, shape.Stride).Clear();
            }
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                ulong mask = p.RowMasks[(row * shape.LatentBlocks) + block];
                for (; mask != 0; mask &= mask - 1)
                {
                    masks[(block * Panels.BlockRows) + BitOperations.TrailingZeroCount(mask)] |= 1UL << inBlock;
                }
            }
        }
    }

    /// <summary>Adds what the dead latents decode to x̂ - x: the error of their reconstruction of the residual.</summary>
    private unsafe void Decode(Pointers p, Shape shape, int start, int end)
    {
        for (int across = 0; across < panels.Across; across++)
        {
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                for (int row = start; row < end; row += Panels.BlockRows)
                {
                    ByRows(p, shape, p.Acts, block, across, row, end).Accumulate(Simd.Best);
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

    private unsafe void DifferentiateActs(Pointers p, Shape shape, int start, int end)
    {
        for (int across = 0; across < panels.Across; across++)
        {
            for (int block = 0; block < shape.LatentBlocks; block++)
            {
                for (int row = start; row < end; row += Panels.BlockRows)
                {
                    ByRows(p, shape, p.ActGradients, block, across, row, end).AddDots(Simd.Best);
                }
            }
        }
    }

    private unsafe MaskedBlock ByRows(
        Pointers p,
        Shape shape,
        float* entries,
        int latentBlock,
        int across,
        int row,
        int end
    ) =>
        new()
        {
            Masks = p.RowMasks + ((long)row * shape.LatentBlocks) + latentBlock,
            MaskStep = shape.LatentBlocks,
            Entries = entries + ((long)row * shape.Stride) + (latentBlock * Panels.BlockRows),
            TargetStep = shape.Stride,
            EntryStep = 1,
            Block = p.Decoder + panels.Start(latentBlock, across),
            Targets = p.Errors + panels.Start(row / Panels.BlockRows, across),
            Width = panels.WidthOf(across),
            TargetCount = Math.Min(Panels.BlockRows, end - row),
        };

    /// <summary>Adds a chunk's part in the gradients of a tile of latents, in some of their columns; in the first, of their biases too.</summary>
    private unsafe void GradientTile(Pointers p, Shape shape, int tile, int across, int count)
    {
        int first = tile * TileBlocks;
        int last = Math.Min(shape.LatentBlocks, first + TileBlocks);
        Accumulate(p.Acts, p.Errors, p.DecoderGradient);
        Accumulate(p.ActGradients, p.Inputs, p.EncoderGradient);
        if (across > 0)
        {
            return;
        }
        var bias = new Span<float>(p.BiasGradient, shape.Stride)[(first * Panels.BlockRows)..(last * Panels.BlockRows)];
        for (int row = 0; row < count; row++)
        {
            float* from = p.ActGradients + ((long)row * shape.Stride) + (first * Panels.BlockRows);
            TensorPrimitives.Add(bias, new ReadOnlySpan<float>(from, bias.Length), bias);
        }

        void Accumulate(float* entries, float* sources, float* sums)
        {
            for (int rowBlock = 0; rowBlock < Panels.Down(count); rowBlock++)
            {
                for (int block = first; block < last; block++)
                {
                    new MaskedBlock
                    {
                        Masks = p.LatentMasks + ((long)rowBlock * shape.Stride) + (block * Panels.BlockRows),
                        MaskStep = 1,
                        Entries =
                            entries + ((long)rowBlock * Panels.BlockRows * shape.Stride) + (block * Panels.BlockRows),
                        TargetStep = 1,
                        EntryStep = shape.Stride,
                        Block = sources + panels.Start(rowBlock, across),
                        Targets = sums + panels.Start(block, across),
                        Width = panels.WidthOf(across),
                        TargetCount = Panels.BlockRows,
                    }.Accumulate(Simd.Best);
                }
            }
        }
    }

    /// <summary>To the gradients' own places.</summary>
    private unsafe void Scatter(Pointers p, Shape shape, ReadOnlyMemory<int> deadN, ParallelOptions parallel)
    {
        Parallel.For(
            0,
            shape.LatentBlocks,
            parallel,
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
        if (!sae.SubtractsDecoderBias)
        {
            return;
        }
        var decoderBias = new Span<float>(p.DecoderBiasGradient, width);
        for (int n = 0; n < deadN.Length; n++)
        {
            var row = new ReadOnlySpan<float>(p.Encoder + ((long)n * width), width);
            TensorPrimitives.MultiplyAdd(row, -p.BiasGradient[n], decoderBias, decoderBias);
        }
    }

    /// <summary>How much is handled at a time.</summary>
    /// <param name="LatentBlocks">Blocks that the dead fill.</param>
    /// <param name="Stride">From a row of activations to the next: all the blocks, and not a multiple of a cache's ways.</param>
    /// <param name="ChunkRows">Rows whose activations exist at a time.</param>
    private sealed record Shape(int LatentBlocks, int Stride, int ChunkRows)
    {
        public int PaddedLatents => LatentBlocks * Panels.BlockRows;

        public int LatentTiles => (LatentBlocks + TileBlocks - 1) / TileBlocks;

        public static Shape Of(int dead, int batch)
        {
            int blocks = Panels.Down(dead);
            int stride = ((blocks * Panels.BlockRows / 16) | 1) * 16; // an odd number of cache lines
            int tiles = Math.Clamp(ChunkValues / stride / TileRows, 1, (batch + TileRows - 1) / TileRows);
            return new Shape(blocks, stride, tiles * TileRows);
        }
    }

    /// <summary>Memory of libtorch's, aligned for vectors, as long as was ever asked for.</summary>
    private sealed class AlignedBuffer : IDisposable
    {
        private Tensor? memory;

        /// <summary>Its beginning as a tensor.</summary>
        public Tensor Floats(long rowCount, long columns) =>
            memory!.narrow(0, 0, rowCount * columns).view(rowCount, columns);

        public unsafe float* At(long length)
        {
            if (memory is null || memory.numel() < length)
            {
                memory?.Dispose();
                memory = empty(length).DetachFromDisposeScope();
            }
            return CpuKernels.Floats(memory);
        }

        public void Dispose() => memory?.Dispose();
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

        /// <summary>[stride, D], rows as they are.</summary>
        public readonly float* Encoder = owner.encoder.At((long)shape.Stride * owner.width);
        public readonly float* EncoderBias = owner.encoderBias.At(shape.Stride);
        public readonly float* BiasGradient = owner.biasGradient.At(shape.Stride);

        /// <summary>Panels of the dead latents' rows.</summary>
        public readonly float* Decoder = owner.decoder.At(owner.panels.Length(shape.PaddedLatents));
        public readonly float* EncoderGradient = owner.encoderGradient.At(owner.panels.Length(shape.PaddedLatents));
        public readonly float* DecoderGradient = owner.decoderGradient.At(owner.panels.Length(shape.PaddedLatents));

        /// <summary>[rows of a chunk, stride].</summary>
        public readonly float* Acts = owner.acts.At((long)shape.ChunkRows * shape.Stride);
        public readonly float* ActGradients = owner.actGradients.At((long)shape.ChunkRows * shape.Stride);

        /// <summary>Panels of a chunk's rows.</summary>
        public readonly float* Errors = owner.errors.At(owner.panels.Length(shape.ChunkRows));
        public readonly float* Inputs = owner.inputs.At(owner.panels.Length(shape.ChunkRows));

        /// <summary>[rows of a chunk, blocks of latents].</summary>
        public readonly ulong* RowMasks = (ulong*)owner.rowMasks.At(2L * shape.ChunkRows * shape.LatentBlocks);

        /// <summary>[blocks of a chunk's rows, stride].</summary>
        public readonly ulong* LatentMasks = (ulong*)
            owner.latentMasks.At(2L * Panels.Down(shape.ChunkRows) * shape.Stride);
    }
}
