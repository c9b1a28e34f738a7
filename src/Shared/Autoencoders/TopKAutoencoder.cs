using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>
/// A k-sparse autoencoder (Gao et al. 2024, section 2.3): f = ReLU(TopK(W_enc (x - b_dec) + b_enc)), x̂ = W_dec f + b_dec.
/// Axes: B batch, D activation width, F latents, K kept.
/// </summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="b_enc">[F]</param>
/// <param name="W_dec">[F, D], a row a latent's direction.</param>
/// <param name="b_dec">[D]</param>
/// <param name="K">Latents kept.</param>
public sealed record TopKAutoencoder(Tensor W_enc, Tensor b_enc, Tensor W_dec, Tensor b_dec, int K) : IDisposable
{
    /// <summary>Whether b_dec is subtracted from the input; false only in files of other libraries.</summary>
    public bool SubtractsDecoderBias { get; init; } = true;

    public int Width => (int)W_dec.shape[1];

    public int Features => (int)W_dec.shape[0];

    /// <summary>ReLU(W_enc (x - b_dec) + b_enc), [B, F], or of the latents given alone, [B, N].</summary>
    public Tensor PreActivations(Tensor xBD, Tensor? latentsN = null)
    {
        using var scope = NewDisposeScope();
        var centeredBD = SubtractsDecoderBias ? xBD - b_dec : xBD;
        var weight = latentsN is null ? W_enc : W_enc.index_select(0, latentsN);
        var bias = latentsN is null ? b_enc : b_enc.index_select(0, latentsN);
        return nn.functional.relu(nn.functional.linear(centeredBD, weight, bias)).MoveToOuterDisposeScope();
    }

    public SparseLatents Encode(Tensor xBD)
    {
        using var scope = NewDisposeScope();
        var (valuesBK, indicesBK) = PreActivations(xBD).topk(K, -1, sorted: false);
        return new SparseLatents(indicesBK.MoveToOuterDisposeScope(), valuesBK.MoveToOuterDisposeScope());
    }

    /// <summary>x̂ [B, D].</summary>
    public Tensor Decode(SparseLatents latents)
    {
        using var scope = NewDisposeScope();
        return (Dense(latents).matmul(W_dec) + b_dec).MoveToOuterDisposeScope();
    }

    public Tensor Reconstruct(Tensor xBD)
    {
        using var scope = NewDisposeScope();
        return Decode(Encode(xBD)).MoveToOuterDisposeScope();
    }

    /// <summary>All latents, [B, F], zeros where not kept.</summary>
    public Tensor Dense(SparseLatents latents) =>
        zeros([latents.IndicesBK.shape[0], Features], W_dec.dtype, W_dec.device)
            .scatter_(1, latents.IndicesBK, latents.ValuesBK);

    public void Dispose()
    {
        W_enc.Dispose();
        b_enc.Dispose();
        W_dec.Dispose();
        b_dec.Dispose();
    }
}
