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
        var examples = new FeatureExamples(features, bos: null);
        codes.Give(examples.Add, batch);

        examples.Tokens.Should().Be(contexts * positions);
        double dead = codes.Activations.Count(activations => activations.All(a => a == 0)) / (double)features;
        examples.DeadFraction(withBos: true).Should().Be(dead);
        examples.DeadFraction(withBos: false).Should().Be(dead);
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
        var first = new FeatureExamples(20, Bos);
        codes.Give(first.Add, 2, ..5);
        var second = new FeatureExamples(20, Bos);
        var state = first.State().ToDictionary(part => part.Name, part => part.Value);
        second.Restore(name => state[name].clone());
        codes.Give(second.Add, 4, 5..);

        var whole = codes.Examples(Bos);
        for (int f = 0; f < 20; f++)
        {
            second.Of(f).Should().BeEquivalentTo(whole.Of(f), o => o.WithStrictOrdering());
            second.Mean(f).Should().Be(whole.Mean(f));
        }
        foreach (bool withBos in new[] { true, false })
        {
            Histogram(second, withBos).Should().Be(Histogram(whole, withBos));
        }
        second.Tokens.Should().Be(whole.Tokens);
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
        examples.Spread(100).Should().HaveCount(codes.Activations.Count(own => own.Any(a => a > 0)));
    }

    /// <summary>Both ways of counting, in one reading: without BOS nothing of it is in any figure, with it all is.</summary>
    [Fact]
    public void What_fires_on_BOS_is_counted_apart()
    {
        var codes = new RandomCodes(6, 12, 20, 4);
        var plain = codes.Examples();

        var examples = codes.Examples(Bos);

        Histogram(examples, withBos: true).Should().Be(Histogram(plain, withBos: true));
        examples.DeadFraction(withBos: true).Should().Be(plain.DeadFraction(withBos: true));
        Histogram(examples, withBos: false).Should().NotBe(Histogram(plain, withBos: false));
        int[] others = [.. Enumerable.Range(0, 72).Where(row => codes.Contexts[row / 12].Tokens[row % 12] != Bos)];
        examples.Tokens.Should().Be(others.Length);
        for (int f = 0; f < 20; f++)
        {
            examples.Fired(f).Should().Be(others.Count(row => codes.Activations[f][row] > 0));
            float largest = others.Max(row => codes.Activations[f][row]);
            long first = others.First(row => codes.Activations[f][row] == largest);
            examples.Peak(f).Should().Be(largest > 0 ? first : null, "its place counts BOS as all places do");
        }
        double dead = Enumerable.Range(0, 20).Count(f => others.All(row => codes.Activations[f][row] == 0)) / 20.0;
        examples.DeadFraction(withBos: false).Should().Be(dead);
    }

    private const int Bos = 7;

    private static string Histogram(FeatureExamples examples, bool withBos) =>
        examples.DensityHistogram(withBos).ToJsonString();

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
