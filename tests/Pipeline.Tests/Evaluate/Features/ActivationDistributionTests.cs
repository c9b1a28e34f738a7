using Pipeline.Evaluate.Features;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Features;

public class ActivationDistributionTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(20)]
    [InlineData(1000)]
    public void A_histogram_counts_each_activation_between_its_edges(int count)
    {
        var random = new Xoshiro256(2);
        float[] activations = [.. Enumerable.Range(0, count).Select(_ => (float)(random.NextDouble() + 1e-9) * 0.7f)];
        // Edges themselves, where rounding decides.
        var edges = ActivationDistribution.Edges(activations.Max());
        activations = [.. activations, .. edges.Skip(1)];

        var counts = ActivationDistribution.Histogram(activations, edges);

        edges.Should().HaveCount(21).And.BeInAscendingOrder();
        edges[0].Should().Be(0);
        counts
            .Should()
            .Equal(Enumerable.Range(0, 20).Select(b => activations.Count(a => a > edges[b] && a <= edges[b + 1])));
    }

    [Fact]
    public void A_latent_that_never_fires_has_neither_edges_nor_bands()
    {
        ActivationDistribution.Edges(0).Should().BeEmpty();
        ActivationDistribution.Histogram([], []).Should().BeEmpty();
        ActivationDistribution.Quantiles([], [], new Xoshiro256(1)).Should().BeEmpty();
    }

    [Theory]
    [InlineData(1)]
    [InlineData(4)]
    [InlineData(5)]
    [InlineData(23)]
    [InlineData(501)]
    public void Bands_are_fifths_of_the_sorted_activations(int count)
    {
        var random = new Xoshiro256((ulong)count);
        int[] rows = [.. Enumerable.Range(0, count).Select(i => (3 * i) + 1)];
        float[] activations = [.. rows.Select(_ => 1 + random.NextInt(30))];

        var bands = ActivationDistribution.Quantiles(rows, activations, new Xoshiro256(1));
        var again = ActivationDistribution.Quantiles(rows, activations, new Xoshiro256(1));

        var sorted = rows.Zip(activations).OrderByDescending(a => a.Second).ThenBy(a => a.First).ToList();
        bands.Sum(band => band.Count).Should().Be(count);
        bands.Should().HaveCount(Math.Min(5, count));
        int at = 0;
        foreach (var band in bands)
        {
            var own = sorted.GetRange(at, band.Count);
            at += band.Count;
            Math.Abs(band.Count - (count / 5.0)).Should().BeLessThan(1);
            band.To.Should().Be(own[0].Second);
            band.From.Should().Be(own[^1].Second);
            band.Rows.Should().HaveCount(Math.Min(5, band.Count)).And.OnlyHaveUniqueItems();
            own.Select(a => a.First).Should().ContainInOrder(band.Rows);
        }
        again.Should().BeEquivalentTo(bands, o => o.WithStrictOrdering());
    }

    [Fact]
    public void Rows_are_drawn_from_all_of_a_band()
    {
        int[] rows = [.. Enumerable.Range(0, 100)];
        float[] activations = [.. rows.Select(row => 100f - row)];
        var seen = new HashSet<int>();
        for (ulong seed = 0; seed < 100; seed++)
        {
            seen.UnionWith(ActivationDistribution.Quantiles(rows, activations, new Xoshiro256(seed))[0].Rows);
        }

        seen.Order().Should().Equal(Enumerable.Range(0, 20));
    }
}
