using Pipeline.Evaluate;
using Pipeline.Shared.Activations;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Configuration;
using Pipeline.Tests.Activations;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class TrainingActivationsTests
{
    private const int Width = 6;

    [Theory]
    [InlineData(1000, 1000)] // less than one block
    [InlineData(5000, 5000)] // all of some blocks
    [InlineData(40_000, 32_768)] // more than are taken
    public void Mean_and_covariance_are_of_rows_spread_over_the_whole_harvest(int rows, int fitted)
    {
        using var scope = NewDisposeScope();
        using var folder = new TempFolder();
        float[] values = Shards.Values(rows, Width);
        // The last rows are elsewhere: those who leave them out have another mean.
        for (int i = values.Length / 2; i < values.Length; i++)
        {
            values[i] += 10;
        }
        using var activations = Open(folder, values);

        using var components = activations.Components(() => { });

        components.Rows.Should().Be(fitted);
        var meanD = tensor(values, rows, Width).to(float64).mean([0]);
        (components.MeanD.to(float64) - meanD)
            .abs()
            .max()
            .item<double>()
            .Should()
            .BeLessThan(rows == fitted ? 1e-5 : 0.3);
    }

    [Fact]
    public void The_size_of_an_SAE_is_its_mean_number_of_active_latents_rounded_and_never_none()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var folder = new TempFolder();
        float[] values = Shards.Values(2000, Width);
        using var activations = Open(folder, values);
        using var random = new Generator(1, CPU);
        var W_dec = nn.functional.normalize(randn(20, Width, generator: random), dim: 1);
        var sae = new StandardAutoencoder(W_dec, zeros(20) - 2, W_dec, zeros(Width));
        var silent = sae with { b_enc = zeros(20) - 1e6f };

        int l0 = activations.RoundedL0(sae, CPU, () => { });

        var preActs = tensor(values, 2000, Width).matmul(W_dec.t()) - 2;
        double expected = (preActs > 0).sum().item<long>() / 2000.0;
        l0.Should().Be((int)Math.Round(expected)).And.BeGreaterThan(2);
        activations.RoundedL0(silent, CPU, () => { }).Should().Be(1);
    }

    [Fact]
    public void Fitting_can_be_stopped()
    {
        using var folder = new TempFolder();
        using var activations = Open(folder, Shards.Values(3000, Width));

        ((Action)(() => activations.Components(() => throw new OperationCanceledException())))
            .Should()
            .Throw<OperationCanceledException>();
    }

    private static TrainingActivations Open(TempFolder folder, float[] values)
    {
        Shards.Write(folder["shard.arrow"], ActivationDtype.Float32, Shards.Metadata(Width), values);
        return new TrainingActivations(ActivationDataset.Open([folder["shard.arrow"]]));
    }
}
