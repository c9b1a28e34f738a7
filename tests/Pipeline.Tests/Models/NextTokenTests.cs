using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

public class NextTokenTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(1023)]
    [InlineData(1024)]
    [InlineData(5000)]
    public void Row_by_row_scores_are_what_tensors_give(int vocabulary)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var random = new Generator(1, CPU);
        var cleanRV = randn(6, vocabulary, generator: random) * 5;
        var otherRV = cleanRV + (randn(6, vocabulary, generator: random) * 2);
        var targetsR = randint(vocabulary, [6], dtype: int64, generator: random);

        var kernel = NextToken.ByKernel(cleanRV.clone(), targetsR);
        var plain = NextToken.ByTensors(cleanRV.to(float64), targetsR);

        var (loss, divergence) = kernel.Score(otherRV.clone());
        var (expectedLoss, expectedDivergence) = plain.Score(otherRV.to(float64));
        for (int row = 0; row < 6; row++)
        {
            kernel.LossR[row].Should().BeApproximately(plain.LossR[row], 1e-5);
            loss[row].Should().BeApproximately(expectedLoss[row], 1e-5);
            divergence[row].Should().BeApproximately(expectedDivergence[row], 1e-5);
        }
        kernel.Score(cleanRV.clone()).DivergenceR.Sum().Should().BeApproximately(0, 1e-12);
    }

    [Fact]
    public void Losses_are_the_same_with_and_without_gradients()
    {
        using var scope = NewDisposeScope();
        using var model = TinyModels.Llama(layers: 2);
        using var random = new Generator(1, CPU);
        var tokensBT = randint(32, [3, 16], dtype: int64, generator: random);
        var withGradients = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT);
        using var none = no_grad();

        var without = NextToken.Losses(model, model.ForwardResidual(tokensBT), tokensBT);

        without.shape.Should().Equal(3, 15);
        (without - withGradients).abs().max().item<float>().Should().BeLessThan(1e-5f);
    }

    /// <summary>Logits of all 75 rows would take 300 MB.</summary>
    [Fact]
    public void A_vocabulary_of_a_million_is_scored_a_few_rows_at_a_time_and_alike()
    {
        const int Vocabulary = 1_000_000;
        NextToken.RowsAtATime(Vocabulary).Should().Be(16);
        (4 * NextToken.RowsAtATime(50_257) * 50_257 * sizeof(float)).Should().BeLessThanOrEqualTo(256 << 20);
        NextToken.RowsAtATime(int.MaxValue).Should().Be(1);
        using var scope = NewDisposeScope();
        using var none = no_grad();
        var config = TinyModels.LlamaConfig(layers: 1) with { Vocabulary = Vocabulary, Width = 8, HeadWidth = 2 };
        using var model = new Transformer(config, TransformerInitialization.Random(config, seed: 1));
        using var random = new Generator(1, CPU);
        var tokensBT = randint(Vocabulary, [5, 16], dtype: int64, generator: random);
        var residBTD = model.ForwardResidual(tokensBT);
        var otherBTD = residBTD * 0.5;

        var scores = NextToken.Compare(model, residBTD, [otherBTD], tokensBT);
        double loss = NextToken.Losses(model, residBTD, tokensBT).sum(float64).item<double>();

        double expectedLoss = 0;
        double expectedOther = 0;
        double expectedDivergence = 0;
        for (int b = 0; b < 5; b++)
        {
            using var one = NewDisposeScope();
            var targets = tokensBT[b].narrow(0, 1, 15);
            var (clean, other) = LogProbabilities(model, residBTD[b], otherBTD[b]);
            expectedLoss -= clean.gather(1, targets.unsqueeze(1)).sum(float64).item<double>();
            expectedOther -= other.gather(1, targets.unsqueeze(1)).sum(float64).item<double>();
            expectedDivergence += (clean.exp() * (clean - other)).sum(float64).item<double>();
        }
        scores.LossR.Sum().Should().BeApproximately(expectedLoss, 1e-6 * expectedLoss);
        loss.Should().BeApproximately(expectedLoss, 1e-6 * expectedLoss);
        scores.Others[0].LossR.Sum().Should().BeApproximately(expectedOther, 1e-6 * expectedOther);
        scores.Others[0].DivergenceR.Sum().Should().BeApproximately(expectedDivergence, 1e-3);
    }

    [Fact]
    public void Divergence_of_distributions_worked_out_by_hand()
    {
        float[] clean = [MathF.Log(0.5f), MathF.Log(0.5f)];
        float[] other = [MathF.Log(0.25f), MathF.Log(0.75f)];
        double expected = (0.5 * Math.Log(0.5 / 0.25)) + (0.5 * Math.Log(0.5 / 0.75));

        LogitKernel.LogSumExp(clean).Should().BeApproximately(0, 1e-6);
        LogitKernel
            .Divergence(clean, LogitKernel.LogSumExp(clean), other, LogitKernel.LogSumExp(other))
            .Should()
            .BeApproximately(expected, 1e-6);
    }

    private static (Tensor Clean, Tensor Other) LogProbabilities(Transformer model, Tensor cleanTD, Tensor otherTD) =>
        (
            model.Unembed(cleanTD.narrow(0, 0, 15)).log_softmax(-1),
            model.Unembed(otherTD.narrow(0, 0, 15)).log_softmax(-1)
        );
}
