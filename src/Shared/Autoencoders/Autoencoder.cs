using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>
/// A sparse autoencoder at inference: f = activation(W_enc (x - b_dec) + bias), x̂ = W_dec f + b_dec. The architectures
/// differ in the activation. Axes: B batch, D activation width, F latents, K active. A transcoder is the same with another
/// hook's activations for x̂ to reconstruct, and may add <see cref="W_skip"/> x to it (Paulo et al. 2025).
/// </summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="W_dec">[F, D], a row a latent's direction.</param>
/// <param name="b_dec">[D]</param>
public abstract record Autoencoder(Tensor W_enc, Tensor W_dec, Tensor b_dec) : IDisposable
{
    /// <summary>The architecture's name in SAELens' files and everywhere else.</summary>
    public abstract string Architecture { get; }

    /// <summary>Whether b_dec is subtracted from the input; false only in files of other libraries.</summary>
    public bool SubtractsDecoderBias { get; init; } = true;

    public InputNormalization Normalization { get; init; }

    /// <summary>[D, D], applied to x and added to x̂; a skip transcoder's, null elsewhere.</summary>
    public Tensor? W_skip { get; init; }

    public int Width => (int)W_dec.shape[1];

    public int Features => (int)W_dec.shape[0];

    /// <summary>Every tensor by its name in SAELens' files, W_enc as [F, D].</summary>
    public IReadOnlyList<(string Name, Tensor Value)> Parameters =>
        W_skip is null ? OwnParameters : [.. OwnParameters, ("W_skip", W_skip)];

    /// <summary>Those of the architecture.</summary>
    protected abstract IReadOnlyList<(string Name, Tensor Value)> OwnParameters { get; }

    /// <summary>All latents, [B, F], of normalised activations.</summary>
    protected abstract Tensor Activations(Tensor xBD);

    /// <summary>The same architecture over other tensors.</summary>
    protected abstract Autoencoder Map(Func<Tensor, Tensor> change);

    /// <summary>The biases after W_enc has gained <paramref name="shiftF"/>, so that the latents stay the same.</summary>
    protected abstract Autoencoder WithShiftedEncoder(Tensor shiftF);

    /// <summary>The active latents of each row.</summary>
    /// <param name="xBD">float32.</param>
    public SparseLatents Encode(Tensor xBD)
    {
        ArgumentNullException.ThrowIfNull(xBD);
        using var scope = NewDisposeScope();
        var (normalizedBD, statistics) = InputStatistics.Normalize(xBD, Normalization);
        var (valuesBK, indicesBK) = CpuKernels.MayCompute(normalizedBD)
            ? SelectByKernel(normalizedBD)
            : Select(normalizedBD);
        return new SparseLatents(indicesBK.MoveToOuterDisposeScope(), valuesBK.MoveToOuterDisposeScope())
        {
            Statistics = statistics?.MoveToOuterDisposeScope(),
            SkippedBD = SkippedBD(normalizedBD)?.MoveToOuterDisposeScope(),
        };
    }

    /// <summary>x̂ [B, D].</summary>
    public Tensor Decode(SparseLatents latents)
    {
        ArgumentNullException.ThrowIfNull(latents);
        using var scope = NewDisposeScope();
        var decodedBD = CpuKernels.MayCompute(W_dec)
            ? SparseKernel.Decode(latents.IndicesBK, latents.ValuesBK, W_dec, b_dec)
            : Dense(latents).matmul(W_dec) + b_dec;
        decodedBD = latents.SkippedBD is { } skippedBD ? decodedBD + skippedBD : decodedBD;
        return (latents.Statistics?.Undo(decodedBD) ?? decodedBD).MoveToOuterDisposeScope();
    }

    /// <summary>x̂ [B, D] of x: what decoding its latents gives, without making them sparse.</summary>
    public Tensor Reconstruct(Tensor xBD)
    {
        using var scope = NewDisposeScope();
        var (normalizedBD, statistics) = InputStatistics.Normalize(xBD, Normalization);
        var decodedBD = WithSkip(Activations(normalizedBD).matmul(W_dec) + b_dec, normalizedBD);
        return (statistics?.Undo(decodedBD) ?? decodedBD).MoveToOuterDisposeScope();
    }

    /// <summary>A decoding with W_skip x added to it, where there is one.</summary>
    public Tensor WithSkip(Tensor decodedBD, Tensor xBD) =>
        SkippedBD(xBD) is { } skippedBD ? decodedBD + skippedBD : decodedBD;

    /// <summary>All latents, [B, F], zeros where not active.</summary>
    public Tensor Dense(SparseLatents latents)
    {
        ArgumentNullException.ThrowIfNull(latents);
        return zeros([latents.IndicesBK.shape[0], Features], W_dec.dtype, W_dec.device)
            .scatter_(1, latents.IndicesBK, latents.ValuesBK);
    }

    /// <summary>
    /// The same function with b_dec subtracted from the input or not: W_enc (x - b_dec) + b = W_enc x + (b - W_enc b_dec).
    /// The encoder's bias is a new tensor of the caller's dispose scope; all others are shared with this autoencoder.
    /// </summary>
    public Autoencoder Subtracting(bool decoderBias)
    {
        if (decoderBias == SubtractsDecoderBias)
        {
            return this;
        }
        var shiftF = W_enc.to(float64).matmul(b_dec.to(float64));
        return WithShiftedEncoder(decoderBias ? shiftF : -shiftF) with { SubtractsDecoderBias = decoderBias };
    }

    /// <summary>
    /// For plain activations what this one is for activations multiplied by <paramref name="input"/> and reconstructions
    /// multiplied by <paramref name="output"/>: W_enc times the one, W_dec and b_dec divided by the other, so that the latents
    /// stay the same. New tensors belong to the caller's dispose scope.
    /// </summary>
    public Autoencoder Unscaled(double input, double output) =>
        input == 1 && output == 1
            ? this
            : this with
            {
                W_enc = W_enc * input,
                W_dec = W_dec / output,
                b_dec = b_dec / output,
                W_skip = W_skip is null ? null : W_skip * (input / output),
            };

    /// <summary>This autoencoder on <paramref name="device"/>, in place of this one.</summary>
    public Autoencoder To(Device device)
    {
        ArgumentNullException.ThrowIfNull(device);
        Tensor Moved(Tensor value) => value.to(device, disposeAfter: true).DetachFromDisposeScope();
        return Map(Moved) with { W_skip = W_skip is null ? null : Moved(W_skip) };
    }

    public void Dispose()
    {
        foreach (var (_, value) in Parameters)
        {
            value.Dispose();
        }
        GC.SuppressFinalize(this);
    }

    /// <summary>The active latents of normalised activations, [B, K]: the plain form.</summary>
    protected virtual (Tensor ValuesBK, Tensor IndicesBK) Select(Tensor xBD)
    {
        var latentsBF = Activations(xBD);
        int most = xBD.shape[0] == 0 ? 1 : (int)(latentsBF != 0).sum(dim: -1).max().item<long>();
        return latentsBF.topk(Math.Max(1, most), -1, sorted: false);
    }

    /// <summary>The same on the CPU, all latents of a few rows at a time.</summary>
    protected virtual (Tensor ValuesBK, Tensor IndicesBK) SelectByKernel(Tensor xBD) =>
        SparseKernel.NonZero(xBD, Activations);

    /// <summary>W_skip x, or null.</summary>
    protected Tensor? SkippedBD(Tensor xBD) => W_skip is null ? null : xBD.matmul(W_skip.t());

    /// <summary>x - b_dec, or x where the file says so.</summary>
    protected Tensor Centered(Tensor xBD) => SubtractsDecoderBias ? xBD - b_dec : xBD;

    private protected static Tensor Shifted(Tensor biasF, Tensor shiftF) =>
        (biasF.to(float64) + shiftF).to(biasF.dtype);
}
