using Pipeline.Evaluate.Features;

namespace Pipeline.Tests.Evaluate.Features;

public class LatentSampleTests
{
    [Theory]
    [InlineData(7, 13, 9, 3)]
    [InlineData(1, 2, 1, 1)]
    [InlineData(6, 40, 33, 5)]
    public void What_fits_is_kept_whole_and_read_by_latent(int contexts, int positions, int features, int kept)
    {
        var codes = new RandomCodes(contexts, positions, features, kept);

        var sample = new SampledActivations(codes.Sample().Contexts, features, bos: null);

        sample.Counted.Should().Be(contexts * positions);
        var activationsT = new float[positions];
        for (int f = 0; f < features; f++)
        {
            float[] own = codes.Activations[f];
            int[] rows = [.. Enumerable.Range(0, own.Length).Where(row => own[row] > 0)];
            sample.RowsOf(f).ToArray().Should().Equal(rows);
            sample.ValuesOf(f).ToArray().Should().Equal(rows.Select(row => own[row]));
            for (int c = 0; c < contexts; c++)
            {
                bool any = sample.Read(f, c, activationsT);
                activationsT.Should().Equal(own[(c * positions)..((c + 1) * positions)]);
                any.Should().Be(activationsT.Any(a => a > 0));
            }
        }
        for (int row = 0; row < contexts * positions; row++)
        {
            sample
                .LatentsOf(row)
                .ToArray()
                .Should()
                .BeEquivalentTo(Enumerable.Range(0, features).Where(f => codes.Activations[f][row] > 0));
        }
    }

    [Fact]
    public void An_example_of_the_sample_is_that_of_the_examples()
    {
        var codes = new RandomCodes(4, 30, 12, 3);
        var sample = new SampledActivations(codes.Sample().Contexts, 12, bos: null);
        var examples = codes.Examples();

        for (int f = 0; f < 11; f++)
        {
            var largest = examples.Of(f).First();
            int row = sample.RowsOf(f)[sample.ValuesOf(f).IndexOf(examples.Largest(f))];
            sample.ExampleAt(f, row).Should().BeEquivalentTo(largest);
        }
    }

    [Theory]
    [InlineData(2000)]
    [InlineData(500)]
    [InlineData(1)]
    public void Beyond_the_budget_it_is_the_same_few_contexts_however_they_come(long budget)
    {
        var codes = new RandomCodes(60, 10, 20, 4);
        var one = codes.Sample(budget);
        var other = new LatentSample(5, null, budget);
        codes.Give(other.Add, 1, ..17);
        var state = other.State().ToDictionary(part => part.Name, part => part.Value);
        var resumed = new LatentSample(5, null, budget);
        resumed.Restore(name => state[name].clone());
        codes.Give(resumed.Add, 7, 17..);

        one.Contexts.Count.Should().BeInRange(1, 59);
        (one.Contexts.Count == 1 || one.Contexts.Sum(context => context.Size) <= budget).Should().BeTrue();
        one.Contexts.Select(c => c.Number).Should().BeInAscendingOrder();
        resumed.Contexts.Should().BeEquivalentTo(one.Contexts, o => o.WithStrictOrdering());
        var seeded = new LatentSample(6, null, budget);
        codes.Give(seeded.Add, 3);
        seeded.Contexts.Select(c => c.Number).Should().NotEqual(one.Contexts.Select(c => c.Number));
    }

    /// <summary>Over many seeds each context is in about as often as any other.</summary>
    [Fact]
    public void Contexts_are_drawn_evenly()
    {
        var codes = new RandomCodes(10, 8, 20, 4);
        int[] drawn = new int[10];
        for (ulong seed = 0; seed < 400; seed++)
        {
            var sample = new LatentSample(seed * 1_000_003, null, budget: 120);
            codes.Give(sample.Add, 10);
            foreach (var context in sample.Contexts)
            {
                drawn[context.Number]++;
            }
        }

        double mean = drawn.Average();
        mean.Should().BeInRange(60, 200);
        drawn.Should().OnlyContain(count => Math.Abs(count - mean) < 5 * Math.Sqrt(mean));
    }
}
