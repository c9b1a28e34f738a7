using Pipeline.Shared;

namespace Pipeline.Tests;

public class ReadAheadTests
{
    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(100)]
    public void The_same_items_come_in_the_same_order(int count) =>
        ReadAhead.Of(Enumerable.Range(0, count), 3).Should().Equal(Enumerable.Range(0, count));

    [Fact]
    public void What_the_source_throws_comes_after_the_items_before_it()
    {
        static IEnumerable<int> Failing()
        {
            yield return 1;
            yield return 2;
            throw new StageFailedException("the source failed");
        }
        var taken = new List<int>();

        var take = () =>
        {
            foreach (int item in ReadAhead.Of(Failing(), 8))
            {
                taken.Add(item);
            }
        };

        take.Should().Throw<StageFailedException>().WithMessage("the source failed");
        taken.Should().Equal(1, 2);
    }

    [Fact]
    public void Whoever_stops_early_ends_the_source_which_was_few_items_ahead()
    {
        const int Ahead = 3;
        int made = 0;
        bool disposed = false;
        IEnumerable<int> Endless()
        {
            try
            {
                while (true)
                {
                    yield return made++;
                }
            }
            finally
            {
                disposed = true;
            }
        }

        ReadAhead.Of(Endless(), Ahead).Take(5).Should().Equal(0, 1, 2, 3, 4);

        disposed.Should().BeTrue();
        made.Should().BeLessThanOrEqualTo(5 + Ahead + 1); // one more is in the hand that waits for room
    }
}
