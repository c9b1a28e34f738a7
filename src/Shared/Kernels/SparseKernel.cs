using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Sparse codes at inference on the CPU, in chunks of rows: neither pre-activations nor latents of the whole batch come to
/// be. A row with fewer than K active latents has zeros at latents that are not active. Without gradients.
/// </summary>
internal static class SparseKernel
{
    /// <summary>Rows whose latents exist at a time.</summary>
    private const int ChunkRows = 256;

    /// <summary>Rows that a thread takes at a time, at most.</summary>
    private const int StretchRows = 16;

    /// <summary>The K largest positive of x W_encᵀ + b_enc, of equal ones the earlier, in ascending order of index.</summary>
    /// <param name="xBD">float32.</param>
    /// <param name="W_enc">[F, D]</param>
    /// <param name="b_enc">[F]</param>
    /// <param name="k">At most F.</param>
    public static unsafe (Tensor ValuesBK, Tensor IndicesBK) LargestPositive(
        Tensor xBD,
        Tensor W_enc,
        Tensor b_enc,
        int k
    )
    {
        int batch = (int)xBD.shape[0];
        int features = (int)W_enc.shape[0];
        var found = new Found(batch, k);
        using var biasF = b_enc.contiguous();
        using var preActsRF = empty(Math.Min(ChunkRows, batch), features);
        var chunk = new Rows(preActsRF);
        float* bias = CpuKernels.Floats(biasF);
        for (int first = 0; first < batch; first += ChunkRows)
        {
            using var scope = NewDisposeScope();
            int start = first;
            int rows = Math.Min(ChunkRows, batch - first);
            preActsRF.narrow(0, 0, rows).addmm_(xBD.narrow(0, first, rows), W_enc.t(), beta: 0, alpha: 1);
            Pieces.Run(
                rows,
                StretchRows,
                get_num_threads(),
                () => new int[k],
                (from, length, indices) =>
                {
                    for (int row = from; row < from + length; row++)
                    {
                        int count = TopKSelect.Positive(
                            chunk[row],
                            new ReadOnlySpan<float>(bias, features),
                            indices,
                            found.ValuesOf(start + row),
                            Simd.Best
                        );
                        found.Name(start + row, indices.AsSpan(0, count));
                    }
                },
                _ => { }
            );
        }
        return found.ToTensors();
    }

    /// <summary>The latents that are not zero, in ascending order of index; K is the most any row has, at least 1.</summary>
    /// <param name="xBD">float32.</param>
    /// <param name="activations">Of rows their latents, [R, F].</param>
    public static (Tensor ValuesBK, Tensor IndicesBK) NonZero(Tensor xBD, Func<Tensor, Tensor> activations)
    {
        int batch = (int)xBD.shape[0];
        var indicesOf = new int[batch][];
        var valuesOf = new float[batch][];
        for (int first = 0; first < batch; first += ChunkRows)
        {
            using var scope = NewDisposeScope();
            int start = first;
            var chunk = new Rows(activations(xBD.narrow(0, first, Math.Min(ChunkRows, batch - first))).contiguous());
            Pieces.Run(
                chunk.Count,
                StretchRows,
                get_num_threads(),
                row => (indicesOf[start + row], valuesOf[start + row]) = NonZero(chunk[row])
            );
        }
        var found = new Found(batch, Math.Max(1, indicesOf.Select(indices => indices.Length).DefaultIfEmpty().Max()));
        for (int row = 0; row < batch; row++)
        {
            valuesOf[row].CopyTo(found.ValuesOf(row));
            found.Name(row, indicesOf[row]);
        }
        return found.ToTensors();
    }

    /// <summary>Σ of value x decoder row, + b_dec, [B, D].</summary>
    /// <param name="indicesBK">int64; which rows.</param>
    /// <param name="valuesBK">float32.</param>
    /// <param name="W_dec">[F, D]</param>
    /// <param name="b_dec">[D]</param>
    public static unsafe Tensor Decode(Tensor indicesBK, Tensor valuesBK, Tensor W_dec, Tensor b_dec)
    {
        using var decoderFD = W_dec.contiguous();
        using var biasD = b_dec.contiguous();
        var (batch, kept) = ((int)valuesBK.shape[0], (int)valuesBK.shape[1]);
        var decodedBD = empty(batch, W_dec.shape[1]);
        long[] indices = CpuKernels.ToArray<long>(indicesBK);
        float[] values = CpuKernels.ToArray<float>(valuesBK);
        var decoder = new Rows(decoderFD);
        var decoded = new Rows(decodedBD);
        float* bias = CpuKernels.Floats(biasD);
        Pieces.Run(
            batch,
            StretchRows,
            get_num_threads(),
            row =>
            {
                var sumD = decoded[row];
                new ReadOnlySpan<float>(bias, sumD.Length).CopyTo(sumD);
                for (int j = row * kept; j < (row + 1) * kept; j++)
                {
                    if (values[j] != 0)
                    {
                        TensorPrimitives.MultiplyAdd(decoder[(int)indices[j]], values[j], sumD, sumD);
                    }
                }
            }
        );
        return decodedBD;
    }

    private static (int[] Indices, float[] Values) NonZero(ReadOnlySpan<float> latentsF)
    {
        var indices = new List<int>();
        var values = new List<float>();
        for (int f = 0; f < latentsF.Length; f++)
        {
            int skipped = latentsF[f..].IndexOfAnyExcept(0f);
            if (skipped < 0)
            {
                break;
            }
            f += skipped;
            indices.Add(f);
            values.Add(latentsF[f]);
        }
        return ([.. indices], [.. values]);
    }

    /// <summary>Rows of a contiguous matrix; the tensor outlives it.</summary>
    private readonly unsafe struct Rows(Tensor matrix)
    {
        private readonly float* values = CpuKernels.Floats(matrix);
        private readonly int width = (int)matrix.shape[1];

        public int Count { get; } = (int)matrix.shape[0];

        public Span<float> this[int row] => new(values + ((long)row * width), width);
    }

    /// <summary>Indices and values, row-major [B, K].</summary>
    private sealed class Found(int batch, int k)
    {
        private readonly long[] indices = new long[batch * k];
        private readonly float[] values = new float[batch * k];

        /// <summary>Zeros to begin with.</summary>
        public Span<float> ValuesOf(int row) => values.AsSpan(row * k, k);

        /// <summary>Names a row's active latents, ascending, and after them as many others as are missing to K.</summary>
        public void Name(int row, ReadOnlySpan<int> active)
        {
            var own = indices.AsSpan(row * k, k);
            for (int j = 0; j < active.Length; j++)
            {
                own[j] = active[j];
            }
            ValuesOf(row)[active.Length..].Clear();
            int other = 0;
            for (int j = active.Length; j < k; j++, other++)
            {
                while (active.BinarySearch(other) >= 0)
                {
                    other++;
                }
                own[j] = other;
            }
        }

        public (Tensor ValuesBK, Tensor IndicesBK) ToTensors() => (tensor(values, batch, k), tensor(indices, batch, k));
    }
}
