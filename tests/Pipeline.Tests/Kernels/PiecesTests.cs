using System.Collections.Concurrent;
using Pipeline.Shared.Kernels;

namespace Pipeline.Tests.Kernels;

[Collection(HasTheProcessToItself.Name)]
public class PiecesTests
{
    private static readonly int[] Most = [1, 3, 16, int.MaxValue];
    private static readonly int[] ManyThreads = [1, 2, 3, 8, 100];

    /// <summary>Most pieces of a stretch, and threads.</summary>
    public static TheoryData<int, int> Manners =>
        [.. from most in Most from threads in ManyThreads select (most, threads)];

    public static TheoryData<int> Threads => [1, 2, 4];

    [Theory]
    [MemberData(nameof(Manners))]
    public void Every_piece_is_done_once(int most, int threads)
    {
        foreach (int count in new[] { 0, 1, 2, 5, 16, 97, 1000 })
        {
            var times = new int[count];
            int longest = 0;

            Pieces.Run(
                count,
                most,
                threads,
                () => 0,
                (first, length, _) =>
                {
                    InterlockedMax(ref longest, length);
                    for (int piece = first; piece < first + length; piece++)
                    {
                        Interlocked.Increment(ref times[piece]);
                    }
                },
                _ => { }
            );

            times.Should().OnlyContain(n => n == 1);
            longest.Should().BeLessThanOrEqualTo(most);
        }
    }

    [Fact]
    public void Without_pieces_no_thread_enters()
    {
        int entered = 0;

        Pieces.Run(0, 1, 4, () => entered++, (_, _, _) => { }, _ => { });

        entered.Should().Be(0);
    }

    [Fact]
    public void One_thread_is_the_callers()
    {
        var seen = new ConcurrentBag<int>();

        Pieces.Run(100, 1, _ => seen.Add(Environment.CurrentManagedThreadId));

        seen.Should().HaveCount(100);
        seen.Distinct().Should().Equal(Environment.CurrentManagedThreadId);
    }

    /// <summary>What each thread has stays its own, and is taken back before the job ends.</summary>
    [Theory]
    [MemberData(nameof(Threads))]
    public void Who_entered_leaves_with_what_is_his(int threads)
    {
        var entered = new ConcurrentBag<Own>();
        var left = new ConcurrentBag<Own>();

        Pieces.Run(
            500,
            4,
            threads,
            () =>
            {
                var own = new Own(Environment.CurrentManagedThreadId);
                entered.Add(own);
                return own;
            },
            (_, _, own) => own.Thread.Should().Be(Environment.CurrentManagedThreadId),
            left.Add
        );

        entered.Count.Should().BeInRange(1, threads);
        left.Should().BeEquivalentTo(entered);
    }

    [Theory]
    [MemberData(nameof(Threads))]
    public void A_failure_reaches_the_caller_and_ends_the_work_of_its_thread(int threads)
    {
        const int Failing = 7;
        var begun = new ConcurrentDictionary<int, int>(); // each thread's last
        int failedIn = 0;
        int inside = 0;
        int entered = 0;

        var job = () =>
            Pieces.Run(
                1000,
                1,
                threads,
                () =>
                {
                    Interlocked.Increment(ref inside);
                    return Interlocked.Increment(ref entered);
                },
                (piece, _, _) =>
                {
                    begun[Environment.CurrentManagedThreadId] = piece;
                    if (piece == Failing)
                    {
                        failedIn = Environment.CurrentManagedThreadId;
                        throw new TestFailureException();
                    }
                },
                _ => Interlocked.Decrement(ref inside)
            );

        job.Should().ThrowExactly<TestFailureException>();
        begun[failedIn].Should().Be(Failing);
        entered.Should().BeInRange(1, threads);
        inside.Should().Be(0, "everybody left before the caller heard of it");
        if (threads == 1)
        {
            begun.Should().ContainSingle();
        }
    }

    [Theory]
    [InlineData("enter")]
    [InlineData("leave")]
    public void A_failure_beside_the_pieces_reaches_the_caller_too(string at)
    {
        void FailAt(string place)
        {
            if (place == at)
            {
                throw new TestFailureException();
            }
        }

        var job = () =>
            Pieces.Run(
                10,
                1,
                2,
                () =>
                {
                    FailAt("enter");
                    return 0;
                },
                (_, _, _) => { },
                _ => FailAt("leave")
            );

        job.Should().ThrowExactly<TestFailureException>();
    }

    /// <summary>Called from a thread that is not the pool's, Parallel.For would wait here for helpers that never begin.</summary>
    [Fact]
    public void A_job_ends_though_every_thread_of_the_pool_is_busy()
    {
        const int Blockers = 1000; // ahead of the helpers in the pool's queue, more than it would make threads for
        using var gate = new ManualResetEventSlim();
        using var released = new CountdownEvent(Blockers);
        var seen = new ConcurrentBag<int>();
        var caller = new Thread(() => Pieces.Run(200, 4, _ => seen.Add(Environment.CurrentManagedThreadId)));
        try
        {
            for (int blocker = 0; blocker < Blockers; blocker++)
            {
                ThreadPool.UnsafeQueueUserWorkItem(
                    _ =>
                    {
                        gate.Wait(CancellationToken.None);
                        released.Signal();
                    },
                    null
                );
            }

            caller.Start();

            caller.Join(TimeSpan.FromMinutes(1)).Should().BeTrue("it waits for no thread of the pool");
            seen.Should().HaveCount(200);
            seen.Distinct().Should().Equal(caller.ManagedThreadId);
        }
        finally
        {
            gate.Set();
            released.Wait(CancellationToken.None); // a blocker left behind would signal what is disposed
        }
    }

    [Fact]
    public void Jobs_beside_and_inside_each_other_do_their_own_pieces()
    {
        const int Jobs = 4;
        const int Outer = 9;
        const int Inner = 41;
        var times = new int[Jobs, Outer, Inner];
        var threads = Enumerable
            .Range(0, Jobs)
            .Select(job => new Thread(() =>
                Pieces.Run(
                    Outer,
                    3,
                    outer => Pieces.Run(Inner, 3, inner => Interlocked.Increment(ref times[job, outer, inner]))
                )
            ))
            .ToList();

        threads.ForEach(thread => thread.Start());
        threads.ForEach(thread => thread.Join());

        times.Cast<int>().Should().OnlyContain(n => n == 1);
    }

    [Fact]
    public void While_a_thread_is_aside_a_job_does_not_start_another_in_its_place()
    {
        using var end = new ManualResetEventSlim();
        var aside = AsideUntil(end);
        var seen = new ConcurrentBag<int>();

        Pieces.Run(1000, 2, _ => seen.Add(Environment.CurrentManagedThreadId));
        end.Set();
        aside.Join();

        seen.Should().HaveCount(1000);
        seen.Distinct().Should().Equal(Environment.CurrentManagedThreadId);
    }

    [Fact]
    public void A_thread_that_was_aside_joins_the_job_it_was_missed_in()
    {
        using var end = new ManualResetEventSlim();
        using var joined = new ManualResetEventSlim();
        var aside = AsideUntil(end);
        int caller = Environment.CurrentManagedThreadId;
        var seen = new ConcurrentBag<int>();

        Pieces.Run(
            2,
            2,
            _ =>
            {
                seen.Add(Environment.CurrentManagedThreadId);
                if (Environment.CurrentManagedThreadId == caller)
                {
                    end.Set();
                    joined
                        .Wait(TimeSpan.FromMinutes(1), CancellationToken.None)
                        .Should()
                        .BeTrue("it comes when it is done");
                }
                joined.Set();
            }
        );
        aside.Join();

        seen.Should().BeEquivalentTo([caller, aside.ManagedThreadId]);
    }

    [Fact]
    public void Work_aside_gives_its_result_and_its_failure_and_its_place_is_free_again()
    {
        Pieces.Aside(() => 42).Should().Be(42);
        var failing = () => Pieces.Aside<int>(() => throw new TestFailureException());
        failing.Should().ThrowExactly<TestFailureException>();

        using var both = new Barrier(2);
        Pieces.Run(2, 2, _ => both.SignalAndWait(TimeSpan.FromMinutes(1)).Should().BeTrue("two threads run"));
    }

    /// <summary>A thread that is aside when this returns, until it is told to end.</summary>
    private static Thread AsideUntil(ManualResetEventSlim end)
    {
        var begun = new TaskCompletionSource();
        var aside = new Thread(() =>
            Pieces.Aside(() =>
            {
                begun.SetResult();
                end.Wait(CancellationToken.None);
                return 0;
            })
        );
        aside.Start();
        begun.Task.Wait(CancellationToken.None);
        return aside;
    }

    private static void InterlockedMax(ref int largest, int value)
    {
        for (int seen = largest; value > seen; seen = largest)
        {
            Interlocked.CompareExchange(ref largest, value, seen);
        }
    }

    private sealed class Own(int thread)
    {
        public int Thread { get; } = thread;
    }

    private sealed class TestFailureException : Exception;
}
