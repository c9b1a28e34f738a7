using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>
/// A k-sparse autoencoder (Gao et al. 2024, section 2.3): f = ReLU(TopK(W_enc (x - b_dec) + b_enc)).
/// </summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="b_enc">[F]</param>
/// <param name="W_dec">[F, D], a row a latent's direction.</param>
/// <param name="b_dec">[D]</param>
/// <param name="K">Latents kept.</param>
public sealed record TopKAutoencoder(Tensor W_enc, Tensor b_enc, Tensor W_dec, Tensor b_dec, int K)
    : Autoencoder(W_enc, W_dec, b_dec)
{
    public override string Architecture => "topk";

    protected override IReadOnlyList<(string Name, Tensor Value)> OwnParameters =>
        [("W_enc", W_enc), ("W_dec", W_dec), ("b_dec", b_dec), ("b_enc", b_enc)];

    /// <summary>ReLU(W_enc (x - b_dec) + b_enc), [B, F], or of the latents given alone, [B, N].</summary>
    public Tensor PreActivations(Tensor xBD, Tensor? latentsN = null)
    {
        using var scope = NewDisposeScope();
        var weight = latentsN is null ? W_enc : W_enc.index_select(0, latentsN);
        var bias = latentsN is null ? b_enc : b_enc.index_select(0, latentsN);
        return nn.functional.relu(nn.functional.linear(Centered(xBD), weight, bias)).MoveToOuterDisposeScope();
    }

    protected override Tensor Activations(Tensor xBD)
    {
        var (valuesBK, indicesBK) = Select(xBD);
        return Dense(new SparseLatents(indicesBK, valuesBK));
    }

    protected override (Tensor ValuesBK, Tensor IndicesBK) Select(Tensor xBD) =>
        PreActivations(xBD).topk(K, -1, sorted: false);

    protected override (Tensor ValuesBK, Tensor IndicesBK) SelectByKernel(Tensor xBD) =>
        SparseKernel.LargestPositive(Centered(xBD), W_enc, b_enc, K);

    protected override Autoencoder Map(Func<Tensor, Tensor> change) =>
        this with
        {
            W_enc = change(W_enc),
            b_enc = change(b_enc),
            W_dec = change(W_dec),
            b_dec = change(b_dec),
        };

    protected override Autoencoder WithShiftedEncoder(Tensor shiftF) => this with { b_enc = Shifted(b_enc, shiftF) };
}
