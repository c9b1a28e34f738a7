using System.Text.Json;
using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Autoencoders;

public class SaeLensGoldenTests
{
    [Fact]
    public void A_TopK_SAE_written_by_SAELens_encodes_and_decodes_as_SAELens_does()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        string folder = TestData.Require("data", "saes", "saelens", "topk");
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        using var sae = SaeLensFormat.Load(folder);
        var xBD = Matrix(json.RootElement.GetProperty("x"));

        var latents = sae.Encode(xBD);

        Largest(sae.Dense(latents) - Matrix(json.RootElement.GetProperty("f"))).Should().BeLessThan(1e-5);
        Largest(sae.Decode(latents) - Matrix(json.RootElement.GetProperty("x_hat"))).Should().BeLessThan(1e-5);
    }

    [Fact]
    public void What_is_saved_loads_with_the_same_weights()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var folder = new TempFolder();
        var sae = new TopKAutoencoder(randn(12, 5), randn(12), randn(12, 5), randn(5), 3);
        var origin = new SaeOrigin("model", "blocks.1.hook_resid_post", 64, "text", true);

        SaeLensFormat.Save(folder.Path, sae, zeros(12), origin);
        using var loaded = SaeLensFormat.Load(folder.Path);

        loaded.K.Should().Be(3);
        Largest(loaded.W_enc - sae.W_enc).Should().Be(0);
        Largest(loaded.b_enc - sae.b_enc).Should().Be(0);
        Largest(loaded.W_dec - sae.W_dec).Should().Be(0);
        Largest(loaded.b_dec - sae.b_dec).Should().Be(0);
    }

    [Fact]
    public void An_architecture_that_is_not_supported_is_refused_by_name()
    {
        string folder = TestData.Require("data", "saes", "saelens", "jumprelu");

        ((Action)(() => SaeLensFormat.Load(folder)))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain("jumprelu")
            .And.Contain("cfg.json: architecture");
    }

    private static double Largest(Tensor difference) => difference.abs().max().item<float>();

    private static Tensor Matrix(JsonElement json) =>
        stack([
            .. json.EnumerateArray().Select(row => tensor(row.EnumerateArray().Select(e => e.GetSingle()).ToArray())),
        ]);
}
