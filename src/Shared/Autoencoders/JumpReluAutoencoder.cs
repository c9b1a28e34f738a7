using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>
/// f = z · 1[z > θ] for positive z = W_enc (x - b_dec) + b_enc (Rajamanoharan et al. 2024, Jumping Ahead). With one θ for all
/// latents it is a trained BatchTopK at inference.
/// </summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="b_enc">[F]</param>
/// <param name="Threshold">θ [F]</param>
/// <param name="W_dec">[F, D]</param>
/// <param name="b_dec">[D]</param>
public sealed record JumpReluAutoencoder(Tensor W_enc, Tensor b_enc, Tensor Threshold, Tensor W_dec, Tensor b_dec)
    : Autoencoder(W_enc, W_dec, b_dec)
{
    public override string Architecture => "jumprelu";

    protected override IReadOnlyList<(string Name, Tensor Value)> OwnParameters =>
        [("W_enc", W_enc), ("W_dec", W_dec), ("b_dec", b_dec), ("b_enc", b_enc), ("threshold", Threshold)];

    protected override Tensor Activations(Tensor xBD)
    {
        var preActsBF = nn.functional.linear(Centered(xBD), W_enc, b_enc);
        return nn.functional.relu(preActsBF) * (preActsBF > Threshold);
    }

    protected override Autoencoder Map(Func<Tensor, Tensor> change) =>
        this with
        {
            W_enc = change(W_enc),
            b_enc = change(b_enc),
            Threshold = change(Threshold),
            W_dec = change(W_dec),
            b_dec = change(b_dec),
        };

    protected override Autoencoder WithShiftedEncoder(Tensor shiftF) => this with { b_enc = Shifted(b_enc, shiftF) };
}
