using Pipeline.Evaluate.Features;

namespace Pipeline.Tests.Evaluate.Features;

public class FeatureExamplesTests
{
    [Theory]
    [InlineData(7, 13, 9, 3, 2)]
    [InlineData(1, 2, 1, 1, 1)]
    [InlineData(5, 40, 33, 5, 5)]
    public void Keeps_what_sorting_all_activations_gives(int contexts, int positions, int features, int kept, int batch)
    {
        var codes = new RandomCodes(contexts, positions, features, kept);
        var examples = new FeatureExamples(features);
        codes.Give(examples.Add, batch);

        examples.Tokens.Should().Be(contexts * positions);
        examples.Dead.Should().Be(codes.Activations.Count(activations => activations.All(a => a == 0)));
        for (int f = 0; f < features; f++)
        {
            float[] own = codes.Activations[f];
            float[] fired = [.. own.Where(a => a > 0)];
            examples.Fired(f).Should().Be(fired.Length);
            examples.Largest(f).Should().Be(fired.DefaultIfEmpty().Max());
            examples.Mean(f).Should().BeApproximately(fired.DefaultIfEmpty().Average(a => (double)a), 1e-9);
            int[] rows = [.. Enumerable.Range(0, own.Length).Where(r => own[r] > 0).OrderByDescending(r => own[r])];
            examples
                .Of(f)
                .Should()
                .BeEquivalentTo(rows.Take(10).Select(row => Plain(codes, f, row)), o => o.WithStrictOrdering());
        }
    }

    [Fact]
    public void Saved_and_restored_midway_it_ends_where_it_would_have()
    {
        var codes = new RandomCodes(9, 11, 20, 4);
        var first = new FeatureExamples(20);
        codes.Give(first.Add, 2, ..5);
        var second = new FeatureExamples(20);
        var state = first.State().ToDictionary(part => part.Name, part => part.Value);
        second.Restore(name => state[name].clone());
        codes.Give(second.Add, 4, 5..);

        var whole = codes.Examples();
        for (int f = 0; f < 20; f++)
        {
            second.Of(f).Should().BeEquivalentTo(whole.Of(f), o => o.WithStrictOrdering());
            second.Mean(f).Should().Be(whole.Mean(f));
        }
        second.DensityHistogram().ToJsonString().Should().Be(whole.DensityHistogram().ToJsonString());
    }

    [Fact]
    public void Latents_are_spread_over_the_living_ones_from_the_most_often_firing()
    {
        var codes = new RandomCodes(6, 30, 40, 3);
        var examples = codes.Examples();

        var spread = examples.Spread(5);

        spread.Should().HaveCount(5).And.OnlyHaveUniqueItems();
        spread.Select(examples.Fired).Should().BeInDescendingOrder();
        examples.Fired(spread[0]).Should().Be(Enumerable.Range(0, 40).Max(examples.Fired));
        examples.Spread(100).Should().HaveCount(40 - examples.Dead);
    }

    /// <summary>12 tokens before a token and 6 after it, as far as the context goes.</summary>
    private static LatentExample Plain(RandomCodes codes, int latent, int row)
    {
        int t = row % codes.Positions;
        var context = codes.Contexts[row / codes.Positions];
        int[] window = [.. Enumerable.Range(0, codes.Positions).Where(p => p >= t - 12 && p <= t + 6)];
        return new LatentExample(
            [.. window.Select(p => context.Tokens[p])],
            [.. window.Select(p => codes.Activations[latent][row - t + p])],
            t - window[0],
            context.Documents[t],
            context.Positions[t]
        );
    }
}
