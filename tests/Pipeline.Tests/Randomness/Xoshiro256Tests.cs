using Pipeline.Shared;

namespace Pipeline.Tests.Randomness;

public class Xoshiro256Tests
{
    [Fact]
    public void The_numbers_are_those_of_the_published_generator()
    {
        var random = new Xoshiro256(0) { State = [1, 2, 3, 4] };

        ulong[] drawn = [random.NextULong(), random.NextULong(), random.NextULong(), random.NextULong()];

        // The reference implementation's first outputs from this state.
        drawn.Should().Equal(11520, 0, 1509978240, 1215971899390074240);
    }

    [Fact]
    public void A_restored_state_goes_on_with_the_same_numbers()
    {
        var random = new Xoshiro256(7, "train", "test");
        random.NextGaussian();
        var restored = new Xoshiro256(1) { State = random.State };

        restored.NextULong().Should().Be(random.NextULong());
        ((Action)(() => restored.State = [0, 0, 0, 0])).Should().Throw<ArgumentException>();
    }

    [Fact]
    public void Streams_differ_by_seed_stage_and_purpose_and_not_by_where_the_names_are_cut()
    {
        ulong[] seeds =
        [
            RandomStreams.Derive(1, "ab", "c"),
            RandomStreams.Derive(1, "a", "bc"),
            RandomStreams.Derive(2, "ab", "c"),
            RandomStreams.Derive(1, "ab", "d"),
        ];

        seeds.Should().OnlyHaveUniqueItems();
        RandomStreams.Derive(1, "ab", "c").Should().Be(seeds[0]);
    }

    [Fact]
    public void Integers_and_doubles_are_uniform_and_normals_have_mean_0_and_variance_1()
    {
        const int N = 120_000;
        var random = new Xoshiro256(3);
        int[] counts = new int[6];
        double uniform = 0;
        double sum = 0;
        double squares = 0;
        for (int i = 0; i < N; i++)
        {
            counts[random.NextInt(6)]++;
            uniform += random.NextDouble();
            double normal = random.NextGaussian();
            sum += normal;
            squares += normal * normal;
        }

        counts.Should().AllSatisfy(count => count.Should().BeCloseTo(N / 6, 700)); // 5 standard deviations
        (uniform / N).Should().BeApproximately(0.5, 0.005);
        (sum / N).Should().BeApproximately(0, 0.015);
        (squares / N).Should().BeApproximately(1, 0.025);
    }
}
