using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>
/// π = W_enc (x - b_dec); f = 1[π + b_gate > 0] · ReLU(e^r_mag ⊙ π + b_mag) (Rajamanoharan et al. 2024, Improving Dictionary
/// Learning with Gated SAEs).
/// </summary>
/// <param name="W_enc">[F, D]</param>
/// <param name="b_gate">[F]</param>
/// <param name="r_mag">[F]</param>
/// <param name="b_mag">[F]</param>
/// <param name="W_dec">[F, D]</param>
/// <param name="b_dec">[D]</param>
public sealed record GatedAutoencoder(
    Tensor W_enc,
    Tensor b_gate,
    Tensor r_mag,
    Tensor b_mag,
    Tensor W_dec,
    Tensor b_dec
) : Autoencoder(W_enc, W_dec, b_dec)
{
    public override string Architecture => "gated";

    protected override IReadOnlyList<(string Name, Tensor Value)> OwnParameters =>
        [("W_enc", W_enc), ("W_dec", W_dec), ("b_dec", b_dec), ("b_gate", b_gate), ("b_mag", b_mag), ("r_mag", r_mag)];

    protected override Tensor Activations(Tensor xBD)
    {
        var projectedBF = nn.functional.linear(Centered(xBD), W_enc);
        var magnitudesBF = nn.functional.relu((projectedBF * r_mag.exp()) + b_mag);
        return magnitudesBF * (projectedBF + b_gate > 0);
    }

    protected override Autoencoder Map(Func<Tensor, Tensor> change) =>
        this with
        {
            W_enc = change(W_enc),
            b_gate = change(b_gate),
            r_mag = change(r_mag),
            b_mag = change(b_mag),
            W_dec = change(W_dec),
            b_dec = change(b_dec),
        };

    protected override Autoencoder WithShiftedEncoder(Tensor shiftF) =>
        this with
        {
            b_gate = Shifted(b_gate, shiftF),
            b_mag = Shifted(b_mag, shiftF * r_mag.to(float64).exp()),
        };
}
