using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Autoencoders;

/// <summary>Without gradients the CPU encodes and decodes by kernels; with them by tensors, the plain form.</summary>
public class SparseKernelTests
{
    private const int D = 24;
    private const int F = 70;

    public static TheoryData<string> Kinds =>
        ["topk", "topk of all", "standard", "gated", "jumprelu", "topk with norm"];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Kernels_agree_with_tensors(string kind)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(2, CPU);
        var sae = Sae(kind, random);
        var xBD = randn(300, D, generator: random); // more than a chunk of rows
        xBD[7].zero_();
        var plain = sae.Encode(xBD);
        var expectedBF = sae.Dense(plain);
        var expectedBD = sae.Decode(plain);
        using var none = no_grad();
        CpuKernels.MayCompute(xBD).Should().BeTrue();

        var latents = sae.Encode(xBD);

        latents.IndicesBK.shape.Should().Equal(plain.IndicesBK.shape);
        Largest(sae.Dense(latents) - expectedBF).Should().BeLessThan(1e-5f);
        Largest(sae.Decode(latents) - expectedBD).Should().BeLessThan(1e-5f);
        foreach (long[] row in latents.IndicesBK.data<long>().ToArray().Chunk((int)latents.IndicesBK.shape[1]))
        {
            row.Should().OnlyHaveUniqueItems();
            row.Should().OnlyContain(index => index >= 0 && index < F);
        }
    }

    [Fact]
    public void Encoding_no_rows_gives_none()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var random = new Generator(2, CPU);
        foreach (string kind in (string[])["topk", "standard"])
        {
            var sae = Sae(kind, random);

            var latents = sae.Encode(empty(0, D));

            latents.IndicesBK.shape[0].Should().Be(0);
            sae.Decode(latents).shape.Should().Equal(0, D);
        }
    }

    private static Autoencoder Sae(string kind, Generator random)
    {
        // Views with an offset, and transposed ones, as files give them.
        var W_enc = (0.2 * randn(F + 1, D, generator: random)).narrow(0, 1, F);
        var W_dec = (0.2 * randn(D, F, generator: random)).t();
        var (b_enc, b_dec) = ((randn(2 * F, generator: random) - 1).narrow(0, F, F), randn(D, generator: random));
        return kind switch
        {
            "topk" => new TopKAutoencoder(W_enc, b_enc, W_dec, b_dec, 5),
            "topk of all" => new TopKAutoencoder(W_enc, b_enc, W_dec, b_dec, F),
            "topk with norm" => new TopKAutoencoder(W_enc, b_enc, W_dec, b_dec, 5)
            {
                Normalization = InputNormalization.LayerNorm,
                SubtractsDecoderBias = false,
                W_skip = 0.2 * randn(D, D, generator: random),
            },
            "standard" => new StandardAutoencoder(W_enc, b_enc, W_dec, b_dec),
            "gated" => new GatedAutoencoder(
                W_enc,
                b_enc,
                0.2 * randn(F, generator: random),
                randn(F, generator: random),
                W_dec,
                b_dec
            ),
            _ => new JumpReluAutoencoder(W_enc, b_enc, rand(F, generator: random), W_dec, b_dec),
        };
    }

    private static float Largest(Tensor difference) => difference.abs().max().item<float>();
}
