using System.Collections.Concurrent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

[Collection(HasTheProcessToItself.Name)]
public class PieceGroupTests
{
    public static TheoryData<int> Threads => [1, 2, 3, 8];

    [Theory]
    [MemberData(nameof(Threads))]
    public void Every_piece_is_done_once_and_after_all_it_needs(int threads)
    {
        for (int repeat = 0; repeat < 20; repeat++)
        {
            var ended = new ConcurrentDictionary<(char Group, int Piece), bool>();
            var tooEarly = new ConcurrentBag<(char Group, int Piece)>();
            var first = Group('a', 7, []);
            var none = Group('b', 0, [], first);
            var second = Group('c', 3, ['a'], first, none);
            var between = Group('d', 2, []);
            var third = Group('e', 11, ['a', 'c', 'd'], second, between);

            PieceGroup.Run([first, none, between, second, third], threads);

            ended.Should().HaveCount(7 + 3 + 2 + 11);
            tooEarly.Should().BeEmpty();

            PieceGroup Group(char name, int count, char[] after, params PieceGroup[] needed) =>
                new(
                    count,
                    piece =>
                    {
                        var counts = new Dictionary<char, int>
                        {
                            ['a'] = 7,
                            ['c'] = 3,
                            ['d'] = 2,
                        };
                        if (after.Any(other => ended.Keys.Count(key => key.Group == other) < counts[other]))
                        {
                            tooEarly.Add((name, piece));
                        }
                        Thread.SpinWait(piece * 1000);
                        ended.TryAdd((name, piece), true).Should().BeTrue("each is done once");
                    },
                    needed
                );
        }
    }

    [Fact]
    public void A_piece_begins_while_a_group_it_does_not_need_is_at_work()
    {
        using var begun = new ManualResetEventSlim();
        var waiting = new PieceGroup(
            1,
            _ => begun.Wait(TimeSpan.FromMinutes(1)).Should().BeTrue("the other runs beside")
        );
        var other = new PieceGroup(1, _ => begun.Set());

        PieceGroup.Run([waiting, other], 2);
    }

    [Theory]
    [MemberData(nameof(Threads))]
    public void A_failure_reaches_the_caller_and_leaves_nobody_waiting(int threads)
    {
        var failing = new PieceGroup(2, piece => throw new InvalidOperationException($"piece {piece}"));
        var needing = new PieceGroup(8, _ => { }, failing);

        Exception? failure = null;
        var caller = new Thread(() =>
        {
            try
            {
                PieceGroup.Run([failing, needing], threads);
            }
            catch (InvalidOperationException e)
            {
                failure = e;
            }
        });
        caller.Start();

        caller.Join(TimeSpan.FromMinutes(1)).Should().BeTrue("it ends");
        failure.Should().NotBeNull();
    }
}
