using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// Reconstruction loss and gradients of a TopK SAE on the CPU, written out by hand: the encoder's GEMM in chunks of rows by
/// libtorch, then only the K kept latents of each row are touched. <see cref="Objectives.KSparseObjective"/> is its plain twin.
/// <code>
/// chunk: GEMM ─> top k ─> x̂, residual ─> gradient of each kept value      (rows in parallel)
/// entries by row ─> entries by latent ─> gradient rows of W_enc, W_dec    (latents in parallel)
/// </code>
/// Every sum runs in a fixed order, so that results do not depend on how work falls to threads.
/// </summary>
/// <param name="sae">The parameters; their gradients are this object's to fill.</param>
/// <param name="batch">B.</param>
/// <param name="projectionEpsilon">As <see cref="RowGradients.Measure"/> has it.</param>
internal sealed class TopKCpuGradients(TopKAutoencoder sae, int batch, double? projectionEpsilon) : IDisposable
{
    /// <summary>Rows whose pre-activations exist at a time.</summary>
    public const int ChunkRows = 256;

    private readonly int width = sae.Width;
    private readonly int features = sae.Features;
    private readonly int k = sae.K;
    private readonly Tensor preActsRF = empty(Math.Min(ChunkRows, batch), sae.Features).DetachFromDisposeScope();
    private readonly float[] centeredBD = new float[batch * sae.Width];
    private readonly float[] errorBD = new float[batch * sae.Width]; // x̂ - x
    private readonly int[] indicesBK = new int[batch * sae.K];
    private readonly float[] valuesBK = new float[batch * sae.K];
    private readonly float[] valueGradientsBK = new float[batch * sae.K];
    private readonly int[] keptB = new int[batch];
    private readonly int[] firstEntryF = new int[sae.Features + 1];
    private readonly int[] entries = new int[batch * sae.K];

    /// <summary>Rows a call takes.</summary>
    public int Batch => batch;

    /// <summary>What the optimizer need not find out again.</summary>
    public RowGradients Rows { get; } = new(sae.Features);

    /// <summary>Latents kept of each row.</summary>
    public int K => k;

    /// <summary>Σ over D of (x - x̂)², mean over the batch.</summary>
    public double Reconstruction { get; private set; }

    /// <summary>Latents kept, over the batch.</summary>
    public long Kept { get; private set; }

    /// <summary>How many rows kept each latent, int64 [F].</summary>
    public Tensor FireCountsF()
    {
        var counts = new long[features];
        for (int f = 0; f < features; f++)
        {
            counts[f] = firstEntryF[f + 1] - firstEntryF[f];
        }
        return tensor(counts);
    }

    /// <summary>x - x̂ [B, D], a copy.</summary>
    public Tensor ResidualBD() => tensor(errorBD, batch, width).neg_();

    /// <summary>Computes the loss and puts its gradients in place of those of the SAE's parameters.</summary>
    /// <param name="xBD">float32, contiguous, on the CPU, of the batch size given at construction.</param>
    /// <exception cref="StageFailedException">A row of the input is not finite.</exception>
    public unsafe void Compute(Tensor xBD)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var parallel = new ParallelOptions { MaxDegreeOfParallelism = get_num_threads() };
        var weights = new Pointers(sae, xBD, preActsRF);
        for (int first = 0; first < batch; first += ChunkRows)
        {
            int start = first;
            int rows = Math.Min(ChunkRows, batch - first);
            for (int row = start; row < start + rows; row++)
            {
                Center(weights, row); // one pass over the input: not worth a thread, and its refusal stays a plain one
            }
            EncodeChunk(start, rows);
            Parallel.For(0, rows, parallel, row => DecodeRow(weights, start + row, row));
        }
        SortEntriesByLatent();
        double scale = 2.0 / batch;
        var gradients = new GradientPointers(sae);
        Parallel.For(0, features, parallel, f => LatentGradient(weights, gradients, f, (float)scale));
        DecoderBiasGradient(weights, gradients, (float)scale);
        Reconstruction = SumOfSquaredErrors() / batch;
    }

    /// <summary>
    /// Adds the gradients of the dead latents' loss (<see cref="KSparseObjective.AuxKOfDead"/>, its plain twin). They did not
    /// fire, so that their rows have none from the reconstruction.
    /// </summary>
    /// <returns>The loss before its coefficient.</returns>
    public unsafe double ComputeAuxK(Tensor xBD, Tensor deadF, KSparseObjective objective)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var deadN = deadF.nonzero().squeeze(-1);
        if (deadN.numel() == 0)
        {
            return 0;
        }
        var residualBD = ResidualBD();
        var variance = (residualBD - residualBD.mean([0], keepdim: true)).square().sum(-1).mean().item<float>();
        if (variance == 0)
        {
            return 0;
        }
        var W_encND = sae.W_enc.index_select(0, deadN);
        var W_decND = sae.W_dec.index_select(0, deadN);
        var inputBD = sae.SubtractsDecoderBias ? xBD - sae.b_dec : xBD;
        var actsBN = nn.functional.relu(nn.functional.linear(inputBD, W_encND, sae.b_enc.index_select(0, deadN)));
        if (objective.AuxK < deadN.numel())
        {
            var (valuesBK, chosenBK) = actsBN.topk(objective.AuxK, -1, sorted: false);
            actsBN = zeros_like(actsBN).scatter_(1, chosenBK, valuesBK);
        }
        var errorOfBD = actsBN.matmul(W_decND).sub_(residualBD);
        double loss = errorOfBD.square().sum().item<float>() / (batch * variance);
        var toDecodedBD = errorOfBD.mul_(2 * objective.AuxCoefficient / (batch * variance));
        var toActsBN = toDecodedBD.matmul(W_decND.t()).mul_(actsBN > 0);
        var toBiasN = toActsBN.sum(dim: 0);
        sae.W_dec.grad!.index_copy_(0, deadN, actsBN.t().matmul(toDecodedBD));
        sae.W_enc.grad!.index_copy_(0, deadN, toActsBN.t().matmul(inputBD));
        sae.b_enc.grad!.index_copy_(0, deadN, toBiasN);
        if (sae.SubtractsDecoderBias)
        {
            sae.b_dec.grad!.sub_(toBiasN.matmul(W_encND));
        }
        var gradients = new GradientPointers(sae);
        var weights = new Pointers(sae, xBD, preActsRF);
        foreach (int f in deadN.data<long>().ToArray().Select(f => (int)f))
        {
            Rows.Measure(
                f,
                new ReadOnlySpan<float>(gradients.Encoder + ((long)f * width), width),
                new ReadOnlySpan<float>(gradients.Decoder + ((long)f * width), width),
                weights.DecoderRow(f, width),
                projectionEpsilon
            );
        }
        return loss;
    }

    public void Dispose() => preActsRF.Dispose();

    private unsafe void Center(Pointers p, int row)
    {
        var x = new ReadOnlySpan<float>(p.X + ((long)row * width), width);
        if (!float.IsFinite(TensorPrimitives.MaxMagnitude(x)))
        {
            throw new StageFailedException(
                new Fault(
                    $"training batch: row {row}",
                    "a value that is not finite",
                    "finite activations",
                    "Run verify on the harvest"
                ).ToString()
            );
        }
        var centered = centeredBD.AsSpan(row * width, width);
        if (sae.SubtractsDecoderBias)
        {
            TensorPrimitives.Subtract(x, new ReadOnlySpan<float>(p.DecoderBias, width), centered);
        }
        else
        {
            x.CopyTo(centered);
        }
    }

    private void EncodeChunk(int first, int rows)
    {
        using var scope = NewDisposeScope();
        var centeredRD = from_array(centeredBD).view(batch, width).narrow(0, first, rows);
        preActsRF.narrow(0, 0, rows).addmm_(centeredRD, sae.W_enc.t(), beta: 0, alpha: 1); // b_enc comes with selection
    }

    private unsafe void DecodeRow(Pointers p, int row, int chunkRow)
    {
        var preActs = new ReadOnlySpan<float>(p.PreActs + ((long)chunkRow * features), features);
        var indices = indicesBK.AsSpan(row * k, k);
        var values = valuesBK.AsSpan(row * k, k);
        int kept = TopKSelect.Positive(preActs, p.EncoderBiases(features), indices, values, Simd.Best);
        keptB[row] = kept;
        var error = errorBD.AsSpan(row * width, width);
        TensorPrimitives.Subtract(
            new ReadOnlySpan<float>(p.DecoderBias, width),
            new ReadOnlySpan<float>(p.X + ((long)row * width), width),
            error
        );
        for (int j = 0; j < kept; j++)
        {
            TensorPrimitives.MultiplyAdd(p.DecoderRow(indices[j], width), values[j], error, error);
        }
        for (int j = 0; j < kept; j++)
        {
            valueGradientsBK[(row * k) + j] = TensorPrimitives.Dot(p.DecoderRow(indices[j], width), error);
        }
    }

    /// <summary>Counting sort of the kept entries by latent; within a latent by row.</summary>
    private void SortEntriesByLatent()
    {
        Array.Clear(firstEntryF);
        Kept = 0;
        for (int row = 0; row < batch; row++)
        {
            Kept += keptB[row];
            for (int j = row * k; j < (row * k) + keptB[row]; j++)
            {
                firstEntryF[indicesBK[j] + 1]++;
            }
        }
        for (int f = 0; f < features; f++)
        {
            firstEntryF[f + 1] += firstEntryF[f];
        }
        int[] next = firstEntryF[..features];
        for (int row = 0; row < batch; row++)
        {
            for (int j = row * k; j < (row * k) + keptB[row]; j++)
            {
                entries[next[indicesBK[j]]++] = j;
            }
        }
    }

    private unsafe void LatentGradient(Pointers p, GradientPointers g, int f, float scale)
    {
        if (firstEntryF[f] == firstEntryF[f + 1])
        {
            Rows.TouchedF[f] = false;
            Rows.SquaredF[f] = 0;
            g.EncoderBias[f] = 0;
            return;
        }
        var decoder = new Span<float>(g.Decoder + ((long)f * width), width);
        var encoder = new Span<float>(g.Encoder + ((long)f * width), width);
        decoder.Clear();
        encoder.Clear();
        float bias = 0;
        for (int e = firstEntryF[f]; e < firstEntryF[f + 1]; e++)
        {
            int entry = entries[e];
            int row = entry / k;
            float valueGradient = scale * valueGradientsBK[entry];
            TensorPrimitives.MultiplyAdd(errorBD.AsSpan(row * width, width), scale * valuesBK[entry], decoder, decoder);
            TensorPrimitives.MultiplyAdd(centeredBD.AsSpan(row * width, width), valueGradient, encoder, encoder);
            bias += valueGradient;
        }
        g.EncoderBias[f] = bias;
        Rows.Measure(f, encoder, decoder, p.DecoderRow(f, width), projectionEpsilon);
    }

    /// <summary>b_dec is added to x̂ and subtracted from the input: Σ of the error's gradient minus Σ over latents of bias gradient x W_enc row.</summary>
    private unsafe void DecoderBiasGradient(Pointers p, GradientPointers g, float scale)
    {
        var total = new Span<float>(g.DecoderBias, width);
        total.Clear();
        for (int row = 0; row < batch; row++)
        {
            TensorPrimitives.MultiplyAdd(errorBD.AsSpan(row * width, width), scale, total, total);
        }
        if (!sae.SubtractsDecoderBias)
        {
            return;
        }
        for (int f = 0; f < features; f++)
        {
            float bias = 0;
            for (int e = firstEntryF[f]; e < firstEntryF[f + 1]; e++)
            {
                bias += scale * valueGradientsBK[entries[e]];
            }
            if (bias != 0)
            {
                TensorPrimitives.MultiplyAdd(
                    new ReadOnlySpan<float>(p.Encoder + ((long)f * width), width),
                    -bias,
                    total,
                    total
                );
            }
        }
    }

    private double SumOfSquaredErrors()
    {
        double sum = 0;
        for (int row = 0; row < batch; row++)
        {
            sum += TensorPrimitives.SumOfSquares(errorBD.AsSpan(row * width, width));
        }
        return sum;
    }

    /// <summary>Where the values lie; the tensors outlive the call.</summary>
    private readonly unsafe struct Pointers(TopKAutoencoder sae, Tensor xBD, Tensor preActsRF)
    {
        public readonly float* X = At(xBD);
        public readonly float* PreActs = At(preActsRF);
        public readonly float* Encoder = At(sae.W_enc);
        public readonly float* EncoderBias = At(sae.b_enc);
        public readonly float* Decoder = At(sae.W_dec);
        public readonly float* DecoderBias = At(sae.b_dec);

        public ReadOnlySpan<float> EncoderBiases(int features) => new(EncoderBias, features);

        public ReadOnlySpan<float> DecoderRow(int f, int width) => new(Decoder + ((long)f * width), width);
    }

    private readonly unsafe struct GradientPointers(TopKAutoencoder sae)
    {
        public readonly float* Encoder = At(Gradient(sae.W_enc));
        public readonly float* EncoderBias = At(Gradient(sae.b_enc));
        public readonly float* Decoder = At(Gradient(sae.W_dec));
        public readonly float* DecoderBias = At(Gradient(sae.b_dec));

        private static Tensor Gradient(Tensor parameter) =>
            parameter.grad ??= zeros_like(parameter).DetachFromDisposeScope();
    }

    private static unsafe float* At(Tensor tensor) => (float*)tensor.storage<float>().data_ptr();
}
