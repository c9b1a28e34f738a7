using Pipeline.Evaluate.Features;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate.Features;

public class LatentNeighboursTests
{
    [Theory]
    [InlineData(1, 5)]
    [InlineData(2, 3)]
    [InlineData(9, 4)]
    [InlineData(131, 17)]
    public void Cosines_are_those_of_the_full_matrix(int features, int width)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(4, CPU);
        var decoderFD = randn(features, width, generator: random) * rand(features, 1, generator: random) * 10;
        var unitFD = nn.functional.normalize(decoderFD, dim: 1);
        float[] cosinesFF = [.. unitFD.matmul(unitFD.t()).data<float>()];
        using var neighbours = new LatentNeighbours(decoderFD, Empty(features));

        int[] latents = [.. Enumerable.Range(0, features).Where(f => f % 2 == 0)];
        var nearest = neighbours.ByCosine(latents);

        nearest.Should().HaveCount(latents.Length);
        for (int i = 0; i < latents.Length; i++)
        {
            var expected = Enumerable
                .Range(0, features)
                .Where(other => other != latents[i])
                .OrderByDescending(other => cosinesFF[(latents[i] * features) + other])
                .Take(8)
                .ToList();
            nearest[i].Select(n => n.Latent).Should().Equal(expected);
            foreach (var (latent, value) in nearest[i])
            {
                value.Should().BeApproximately(cosinesFF[(latents[i] * features) + latent], 1e-5f);
            }
        }
    }

    [Fact]
    public void A_decoder_row_of_zeros_is_near_to_nothing()
    {
        using var scope = NewDisposeScope();
        var decoderFD = tensor(
            new float[,]
            {
                { 0, 0 },
                { 1, 0 },
                { 3, 0 },
            }
        );
        using var neighbours = new LatentNeighbours(decoderFD, Empty(3));

        var nearest = neighbours.ByCosine([0, 1]);

        nearest[0].Select(n => n.Value).Should().Equal(0, 0);
        nearest[1].Should().Equal(new Neighbour(2, 1), new Neighbour(0, 0));
    }

    [Theory]
    [InlineData(5, 11, 30, 4)]
    [InlineData(1, 2, 1, 1)]
    [InlineData(3, 20, 6, 5)]
    public void Coactivation_is_what_counting_pairs_gives(int contexts, int positions, int features, int kept)
    {
        using var scope = NewDisposeScope();
        var codes = new RandomCodes(contexts, positions, features, kept);
        var sample = new SampledActivations(codes.Sample().Contexts, features, bos: null);
        using var neighbours = new LatentNeighbours(zeros(features, 2), sample);
        int Count(Func<int, bool> holds) => Enumerable.Range(0, contexts * positions).Count(holds);

        for (int f = 0; f < features; f++)
        {
            float[] own = codes.Activations[f];
            var expected = Enumerable
                .Range(0, features)
                .Where(other => other != f)
                .Select(other => new Neighbour(
                    other,
                    Count(row => own[row] > 0 && codes.Activations[other][row] > 0)
                        / (float)Math.Max(1, Count(row => own[row] > 0 || codes.Activations[other][row] > 0))
                ))
                .Where(neighbour => neighbour.Value > 0)
                .OrderByDescending(neighbour => neighbour.Value)
                .Take(8);
            neighbours.ByCoactivation(f).Should().Equal(expected);
        }
    }

    private static SampledActivations Empty(int features) => new([], features, bos: null);
}
