using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pipeline.Train;

/// <summary>
/// Reconstruction loss and gradients of TopK, BatchTopK and Matryoshka on the CPU, written out by hand: the latents kept are
/// found by screening, and only they are touched. <see cref="KSparseObjective"/> is its plain twin.
/// <code>
/// batch ─> the k largest of each row, or the k·B largest of the batch (<see cref="EncoderScreen"/>)   (rows in parallel)
/// entries ─> x̂ and residual of each prefix ─> gradient of each kept value                          (rows in parallel)
/// entries by row ─> entries by latent ─> gradient rows of W_enc, W_dec                             (latents in parallel)
/// </code>
/// Every sum runs in a fixed order, so that results do not depend on how work falls to threads.
/// </summary>
/// <param name="sae">The parameters; their gradients are this object's to fill.</param>
/// <param name="objective">K, over what, and the groups.</param>
/// <param name="batch">B.</param>
/// <param name="projectionEpsilon">As <see cref="RowGradients.Measure"/> has it.</param>
internal sealed class KSparseCpuGradients(
    TopKAutoencoder sae,
    KSparseObjective objective,
    int batch,
    double? projectionEpsilon
) : IDisposable
{
    /// <summary>What a thread takes at a time at most.</summary>
    private const int RowsAtATime = 64;
    private const int LatentsAtATime = 64;

    private readonly int width = sae.Width;
    private readonly int features = sae.Features;
    private readonly int k = objective.K;
    private readonly Group[] groups = GroupsOf(objective, sae.Features, batch, sae.Width);
    private readonly EncoderScreen screen = new(sae.Width, sae.Features, Simd.Best);
    private readonly AlignedMemory<float> centeredBD = new((long)batch * sae.Width);
    private readonly AlignedMemory<float> errorBD = new((long)batch * sae.Width); // x̂ - x
    private readonly SparseRows kept = new(batch, batch * objective.K);
    private readonly float[] valueGradients = new float[batch * objective.K];
    private readonly EntriesByLatent byLatent = new(sae.Features, batch * objective.K);
    private AuxKCpuGradients? auxK;

    /// <summary>Rows a call takes.</summary>
    public int Batch => batch;

    /// <summary>What the optimizer need not find out again.</summary>
    public RowGradients Rows { get; } = new(sae.Features);

    /// <summary>Latents kept of each row, or on average.</summary>
    public int K => k;

    /// <summary>Σ over D of (x - x̂)², mean over the batch.</summary>
    public double Reconstruction { get; private set; }

    /// <summary>What is minimised: <see cref="Reconstruction"/>, or the prefixes' weighted together.</summary>
    public double Loss => groups.Sum(group => group.Weight * group.SquaredError);

    /// <summary>The prefixes' own errors by name; none without groups.</summary>
    public IEnumerable<(string Name, double Value)> Terms =>
        groups.Length == 1 ? [] : groups.Select(group => ($"mse_{group.End}", group.SquaredError));

    /// <summary>Latents kept, over the batch.</summary>
    public long Kept { get; private set; }

    /// <summary>The least value kept; 0 where none was.</summary>
    public double SmallestKept { get; private set; }

    /// <summary>How many rows kept each latent, int64 [F].</summary>
    public Tensor FireCountsF()
    {
        var counts = new long[features];
        for (int f = 0; f < features; f++)
        {
            counts[f] = byLatent.Count(f);
        }
        return tensor(counts);
    }

    /// <summary>x - x̂ [B, D], a copy.</summary>
    public unsafe Tensor ResidualBD() =>
        tensor(new ReadOnlySpan<float>(errorBD.Pointer, batch * width).ToArray(), batch, width).neg_();

    /// <summary>Computes the loss and puts its gradients in place of those of the SAE's parameters.</summary>
    /// <param name="xBD">float32, contiguous, on the CPU, of the batch size given at construction.</param>
    /// <param name="mayBeDeadF">Latents that <see cref="AddAuxK"/> may be asked for, bool [F]; null where it will not be.</param>
    /// <exception cref="StageFailedException">A row of the input is not finite.</exception>
    public unsafe void Compute(Tensor xBD, Tensor? mayBeDeadF = null)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        screen.Watch(mayBeDeadF is null ? [] : LatentsOf(mayBeDeadF));
        int threads = get_num_threads();
        var weights = new Pointers(sae, xBD);
        for (int row = 0; row < batch; row++)
        {
            Center(weights, row); // one pass over the input: not worth a thread, and its refusal stays a plain one
        }
        Select(weights);
        Pieces.Run(batch, RowsAtATime, threads, row => DecodeRow(weights, row));
        SumUp();
        float scale = 2f / batch;
        byLatent.Sort(kept, valueGradients, scale);
        var gradients = new GradientPointers(sae);
        Pieces.Run(features, LatentsAtATime, threads, f => LatentGradient(weights, gradients, f));
        DecoderBiasGradient(weights, gradients, scale);
    }

    /// <summary>Adds the gradients of the dead latents' loss in its normalized form to those of <see cref="Compute"/>.</summary>
    /// <param name="deadF">Which latents are dead, bool [F]; none of them was kept, and all might be dead before.</param>
    /// <returns>The loss before its coefficient.</returns>
    public unsafe double AddAuxK(Tensor deadF)
    {
        using var scope = NewDisposeScope();
        auxK ??= new AuxKCpuGradients(
            sae,
            screen.Watched,
            objective.AuxK,
            objective.AuxCoefficient,
            batch,
            Rows,
            projectionEpsilon
        );
        return auxK.Add(LatentsOf(deadF), centeredBD.Pointer, errorBD.Pointer);
    }

    public void Dispose()
    {
        auxK?.Dispose();
        screen.Dispose();
        centeredBD.Dispose();
        errorBD.Dispose();
        Array.ForEach(groups, group => group.Dispose());
    }

    /// <summary>The numbers of those that are set, ascending.</summary>
    private static int[] LatentsOf(Tensor isF) => [.. CpuKernels.ToArray<long>(isF.nonzero()).Select(f => (int)f)];

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
        var centered = RowOf(centeredBD.Pointer, row);
        if (sae.SubtractsDecoderBias)
        {
            TensorPrimitives.Subtract(x, new ReadOnlySpan<float>(p.DecoderBias, width), centered);
        }
        else
        {
            x.CopyTo(centered);
        }
    }

    private unsafe void Select(Pointers p)
    {
        int threads = get_num_threads();
        if (screen.Load(p.Encoder, p.EncoderBias, threads) is { } latent)
        {
            throw new StageFailedException(
                new Fault(
                    $"training: W_enc, b_enc of latent {latent}",
                    "a value that is not finite",
                    "finite weights",
                    "Lower the SAE's learningRate; the last checkpoint is kept"
                ).ToString()
            );
        }
        if (objective.OverBatch)
        {
            screen.SelectOverBatch(centeredBD.Pointer, k, threads, kept);
        }
        else
        {
            screen.SelectOfEachRow(centeredBD.Pointer, k, threads, kept);
        }
    }

    /// <summary>x̂ of each prefix, what each contributes to the loss, and the gradient of each kept value.</summary>
    private unsafe void DecodeRow(Pointers p, int row)
    {
        var error = RowOf(errorBD.Pointer, row);
        TensorPrimitives.Subtract(
            new ReadOnlySpan<float>(p.DecoderBias, width),
            new ReadOnlySpan<float>(p.X + ((long)row * width), width),
            error
        );
        int entry = kept.FirstB[row];
        foreach (var group in groups)
        {
            int end = EndOf(group, row, entry);
            GatheredRows.Add(
                p.Decoder,
                kept.Latents.AsSpan(entry..end),
                kept.Values.AsSpan(entry..end),
                error,
                Simd.Best
            );
            entry = end;
            group.SquaredErrorB[row] = TensorPrimitives.SumOfSquares<float>(error);
            if (groups.Length > 1)
            {
                TensorPrimitives.Multiply(error, (float)group.Weight, RowOf(group.ErrorBD, row));
            }
        }
        // A latent of a prefix is part of every longer one too.
        for (int g = groups.Length - 2; g >= 0; g--)
        {
            var sum = RowOf(groups[g].ErrorBD, row);
            TensorPrimitives.Add(sum, RowOf(groups[g + 1].ErrorBD, row), sum);
        }
        entry = kept.FirstB[row];
        foreach (var group in groups)
        {
            int end = EndOf(group, row, entry);
            GatheredRows.Dot(
                p.Decoder,
                kept.Latents.AsSpan(entry..end),
                RowOf(ErrorsFor(group), row),
                valueGradients.AsSpan(entry..end),
                Simd.Best
            );
            entry = end;
        }
    }

    /// <summary>The end of a row's entries in a prefix.</summary>
    private int EndOf(Group group, int row, int entry)
    {
        while (entry < kept.EndB[row] && kept.Latents[entry] < group.End)
        {
            entry++;
        }
        return entry;
    }

    /// <summary>Half the loss's gradient to reconstructions, times B, as latents have part in it that a prefix has and no shorter one.</summary>
    private unsafe float* ErrorsFor(Group group) => groups.Length == 1 ? errorBD.Pointer : group.ErrorBD;

    private unsafe Span<float> RowOf(float* valuesBD, int row) => new(valuesBD + ((long)row * width), width);

    private void SumUp()
    {
        Kept = 0;
        float smallest = float.PositiveInfinity;
        for (int row = 0; row < batch; row++)
        {
            Kept += kept.EndB[row] - kept.FirstB[row];
            for (int entry = kept.FirstB[row]; entry < kept.EndB[row]; entry++)
            {
                smallest = Math.Min(smallest, kept.Values[entry]);
            }
        }
        SmallestKept = Kept > 0 ? smallest : 0;
        foreach (var group in groups)
        {
            group.SquaredError = group.SquaredErrorB.Sum() / batch;
        }
        Reconstruction = groups[^1].SquaredError;
    }

    private unsafe void LatentGradient(Pointers p, GradientPointers g, int f)
    {
        if (byLatent.Count(f) == 0)
        {
            Rows.TouchedF[f] = false;
            Rows.SquaredF[f] = 0;
            g.EncoderBias[f] = 0;
            return;
        }
        var decoder = RowOf(g.Decoder, f);
        var encoder = RowOf(g.Encoder, f);
        decoder.Clear();
        encoder.Clear();
        var group = groups[0];
        for (int i = 1; f >= group.End; i++)
        {
            group = groups[i];
        }
        GatheredRows.Add(ErrorsFor(group), byLatent.Rows(f), byLatent.Values(f), decoder, Simd.Best);
        GatheredRows.Add(centeredBD.Pointer, byLatent.Rows(f), byLatent.Gradients(f), encoder, Simd.Best);
        g.EncoderBias[f] = TensorPrimitives.Sum(byLatent.Gradients(f));
        Rows.Measure(f, encoder, decoder, p.DecoderRow(f, width), projectionEpsilon);
    }

    /// <summary>b_dec is added to x̂ and subtracted from the input: Σ of the error's gradient minus Σ over latents of bias gradient x W_enc row.</summary>
    private unsafe void DecoderBiasGradient(Pointers p, GradientPointers g, float scale)
    {
        int threads = get_num_threads();
        new Span<float>(g.DecoderBias, width).Clear();
        ColumnSums.Add(batch, row => (row, scale), ErrorsFor(groups[0]), width, g.DecoderBias, threads);
        if (sae.SubtractsDecoderBias)
        {
            ColumnSums.Add(features, f => (f, -g.EncoderBias[f]), p.Encoder, width, g.DecoderBias, threads);
        }
    }

    private static Group[] GroupsOf(KSparseObjective objective, int features, int batch, int width)
    {
        if (objective.GroupSizes is not { } sizes)
        {
            return [new Group(features, 1, batch, width)];
        }
        int end = 0;
        return
        [
            .. sizes.Select(
                (size, g) => new Group(end += size, objective.GroupWeights?[g] ?? (1.0 / sizes.Count), batch, width)
            ),
        ];
    }

    /// <summary>A prefix of the dictionary.</summary>
    /// <param name="end">Its length.</param>
    /// <param name="weight">Of its error in the loss.</param>
    /// <param name="batch">B.</param>
    /// <param name="width">D.</param>
    private sealed class Group(int end, double weight, int batch, int width) : IDisposable
    {
        private readonly Lazy<AlignedMemory<float>> errorBD = new(() => new((long)batch * width));

        public int End => end;

        public double Weight => weight;

        /// <summary>Mean over the batch of the squared error of its reconstruction.</summary>
        public double SquaredError { get; set; }

        public double[] SquaredErrorB { get; } = new double[batch];

        /// <summary>Errors of this prefix and all longer ones, weighted; where there is more than one.</summary>
        public unsafe float* ErrorBD => errorBD.Value.Pointer;

        public void Dispose()
        {
            if (errorBD.IsValueCreated)
            {
                errorBD.Value.Dispose();
            }
        }
    }

    /// <summary>What is kept, latent by latent; within a latent by row.</summary>
    /// <param name="features">F.</param>
    /// <param name="capacity">Entries at the most.</param>
    private sealed class EntriesByLatent(int features, int capacity)
    {
        private readonly int[] firstF = new int[features + 1];
        private readonly int[] nextF = new int[features];
        private readonly int[] rows = new int[capacity];
        private readonly float[] values = new float[capacity];
        private readonly float[] gradients = new float[capacity];

        public int Count(int f) => firstF[f + 1] - firstF[f];

        /// <summary>Where a latent was kept.</summary>
        public ReadOnlySpan<int> Rows(int f) => rows.AsSpan(firstF[f], Count(f));

        /// <summary>Its values there, times the scale given.</summary>
        public ReadOnlySpan<float> Values(int f) => values.AsSpan(firstF[f], Count(f));

        /// <summary>The loss's gradients to them, times the scale given.</summary>
        public ReadOnlySpan<float> Gradients(int f) => gradients.AsSpan(firstF[f], Count(f));

        /// <summary>Counting sort.</summary>
        public void Sort(SparseRows kept, float[] valueGradients, float scale)
        {
            Array.Clear(firstF);
            for (int row = 0; row < kept.Rows; row++)
            {
                foreach (int latent in kept.Latents.AsSpan(kept.FirstB[row]..kept.EndB[row]))
                {
                    firstF[latent + 1]++;
                }
            }
            for (int f = 0; f < features; f++)
            {
                nextF[f] = firstF[f];
                firstF[f + 1] += firstF[f];
            }
            for (int row = 0; row < kept.Rows; row++)
            {
                for (int entry = kept.FirstB[row]; entry < kept.EndB[row]; entry++)
                {
                    int at = nextF[kept.Latents[entry]]++;
                    rows[at] = row;
                    values[at] = scale * kept.Values[entry];
                    gradients[at] = scale * valueGradients[entry];
                }
            }
        }
    }

    /// <summary>Where the values lie; the tensors outlive the call.</summary>
    private readonly unsafe struct Pointers(TopKAutoencoder sae, Tensor xBD)
    {
        public readonly float* X = CpuKernels.Floats(xBD);
        public readonly float* Encoder = CpuKernels.Floats(sae.W_enc);
        public readonly float* EncoderBias = CpuKernels.Floats(sae.b_enc);
        public readonly float* Decoder = CpuKernels.Floats(sae.W_dec);
        public readonly float* DecoderBias = CpuKernels.Floats(sae.b_dec);

        public ReadOnlySpan<float> DecoderRow(int f, int width) => new(Decoder + ((long)f * width), width);
    }

    private readonly unsafe struct GradientPointers(TopKAutoencoder sae)
    {
        public readonly float* Encoder = CpuKernels.Floats(Gradient(sae.W_enc));
        public readonly float* EncoderBias = CpuKernels.Floats(Gradient(sae.b_enc));
        public readonly float* Decoder = CpuKernels.Floats(Gradient(sae.W_dec));
        public readonly float* DecoderBias = CpuKernels.Floats(Gradient(sae.b_dec));

        private static Tensor Gradient(Tensor parameter) =>
            parameter.grad ??= zeros_like(parameter).DetachFromDisposeScope();
    }
}
