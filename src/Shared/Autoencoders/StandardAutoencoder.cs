using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>f = ReLU(W_enc (x - b_dec) + b_enc) (Bricken et al. 2023, Towards Monosemanticity).</summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="b_enc">[F]</param>
/// <param name="W_dec">[F, D]</param>
/// <param name="b_dec">[D]</param>
public sealed record StandardAutoencoder(Tensor W_enc, Tensor b_enc, Tensor W_dec, Tensor b_dec)
    : Autoencoder(W_enc, W_dec, b_dec)
{
    public override string Architecture => "standard";

    protected override IReadOnlyList<(string Name, Tensor Value)> OwnParameters =>
        [("W_enc", W_enc), ("W_dec", W_dec), ("b_dec", b_dec), ("b_enc", b_enc)];

    protected override Tensor Activations(Tensor xBD) =>
        nn.functional.relu(nn.functional.linear(Centered(xBD), W_enc, b_enc));

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
