using System.Collections.Concurrent;
using Pipeline.Harvest;
using Pipeline.Shared;

namespace Pipeline.Tests.Harvest;

public class WriteBehindTests
{
    [Fact]
    public void Pieces_run_one_after_another_in_the_order_given()
    {
        using var disk = new WriteBehind(4);
        var ran = new ConcurrentQueue<int>();
        int running = 0;
        int mostAtOnce = 0;

        var results = Enumerable
            .Range(0, 200)
            .Select(piece =>
                disk.Start(() =>
                {
                    mostAtOnce = Math.Max(mostAtOnce, Interlocked.Increment(ref running));
                    ran.Enqueue(piece);
                    Interlocked.Decrement(ref running);
                    return 2 * piece;
                })
            )
            .ToList();
        disk.Finish();

        ran.Should().Equal(Enumerable.Range(0, 200));
        mostAtOnce.Should().Be(1);
        results.Select(result => result.Result).Should().Equal(Enumerable.Range(0, 200).Select(piece => 2 * piece));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    public void Whoever_gives_more_pieces_than_may_wait_is_held_up_until_one_is_done(int most)
    {
        using var disk = new WriteBehind(most);
        using var gate = new ManualResetEventSlim();
        int given = 0;
        var giver = new Thread(() =>
        {
            for (int piece = 0; piece < most + 1; piece++)
            {
                disk.Start(() => Pass(gate));
                Volatile.Write(ref given, piece + 1);
            }
        });

        giver.Start();
        UntilItWaits(giver, () => Volatile.Read(ref given) >= most);
        int whileNoneIsDone = Volatile.Read(ref given);
        gate.Set();
        giver.Join();

        whileNoneIsDone.Should().Be(most);
        given.Should().Be(most + 1);
    }

    [Fact]
    public void A_piece_that_fails_keeps_those_after_it_from_running_and_Finish_throws_what_it_threw()
    {
        using var disk = new WriteBehind(4);
        using var gate = new ManualResetEventSlim();
        var ran = new ConcurrentQueue<string>();

        var before = disk.Start(() => Pass(gate));
        var failing = disk.Start<bool>(() => throw new StageFailedException("the disk is full"));
        var after = disk.Start(() => Note(ran, "after"));
        gate.Set();

        FluentActions.Invoking(disk.Finish).Should().Throw<StageFailedException>().WithMessage("the disk is full");
        before.IsCompletedSuccessfully.Should().BeTrue();
        failing.IsFaulted.Should().BeTrue();
        after.IsFaulted.Should().BeTrue();
        ran.Should().BeEmpty();
    }

    [Fact]
    public void The_next_to_give_a_piece_gets_what_an_earlier_one_threw_and_theirs_is_not_begun()
    {
        using var disk = new WriteBehind(1);
        var ran = new ConcurrentQueue<string>();
        disk.Start<bool>(() => throw new StageFailedException("the disk is full"));

        FluentActions
            .Invoking(() => (object)disk.Start(() => Note(ran, "after")))
            .Should()
            .Throw<StageFailedException>()
            .WithMessage("the disk is full");

        disk.Settle();
        ran.Should().BeEmpty();
    }

    [Fact]
    public void Settling_waits_for_what_was_given_and_throws_nothing()
    {
        using var gate = new ManualResetEventSlim();
        using var disk = new WriteBehind(4);
        var failing = disk.Start<bool>(() =>
        {
            gate.Wait(CancellationToken.None);
            throw new StageFailedException("the disk is full");
        });
        var after = disk.Start(() => true);
        gate.Set();

        disk.Settle();

        failing.IsCompleted.Should().BeTrue();
        after.IsCompleted.Should().BeTrue();
        disk.Settle();
    }

    [Fact]
    public void Nothing_runs_once_it_is_disposed_of()
    {
        var disk = new WriteBehind(4);
        using var gate = new ManualResetEventSlim();
        var ran = new ConcurrentQueue<string>();
        disk.Start(() => Pass(gate));
        disk.Start(() => Note(ran, "second"));
        disk.Start(() => Note(ran, "third"));
        var disposer = new Thread(disk.Dispose);

        disposer.Start();
        UntilItWaits(disposer, () => true);
        bool waited = disposer.IsAlive;
        gate.Set();
        disposer.Join();

        waited.Should().BeTrue("a piece was still running");
        ran.Should().Equal("second", "third");
    }

    /// <summary>Until a thread that got so far waits for something, or is at its end.</summary>
    private static void UntilItWaits(Thread thread, Func<bool> isSoFar) =>
        SpinWait.SpinUntil(() =>
            !thread.IsAlive || (isSoFar() && thread.ThreadState.HasFlag(System.Threading.ThreadState.WaitSleepJoin))
        );

    private static bool Pass(ManualResetEventSlim gate)
    {
        gate.Wait(TestContext.Current.CancellationToken);
        return true;
    }

    private static bool Note(ConcurrentQueue<string> ran, string piece)
    {
        ran.Enqueue(piece);
        return true;
    }
}
