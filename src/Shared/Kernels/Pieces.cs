using System.Runtime.ExceptionServices;

namespace Pipeline.Shared.Kernels;

/// <summary>
/// Work cut into pieces that threads take as they come. A thread that is held up, by another process or by a shard being
/// written, leaves its pieces to the others, and nobody waits for a thread that has not begun, as <see cref="Parallel"/>
/// would: what is waited for at the end is one piece at most.
/// </summary>
public static class Pieces
{
    private static readonly List<Guest> Guests = [];

    /// <param name="count">Pieces.</param>
    /// <param name="threads">At most so many, the caller's among them.</param>
    /// <param name="piece">Does the piece of a number.</param>
    public static void Run(int count, int threads, Action<int> piece) => Run(count, 1, threads, piece);

    /// <summary>The same where pieces are too small to be taken one by one: up to <paramref name="most"/> at a time.</summary>
    /// <inheritdoc cref="Run(int, int, Action{int})"/>
    public static void Run(int count, int most, int threads, Action<int> piece) =>
        Run(
            count,
            most,
            threads,
            () => 0,
            (first, length, _) =>
            {
                for (int number = first; number < first + length; number++)
                {
                    piece(number);
                }
            },
            _ => { }
        );

    /// <summary>The same by stretches of pieces, shorter ones towards the end, and with something of each thread's own.</summary>
    /// <param name="count">Pieces.</param>
    /// <param name="most">Pieces of a stretch, at most.</param>
    /// <param name="threads">At most so many, the caller's among them.</param>
    /// <param name="enter">Makes what a thread has for itself.</param>
    /// <param name="stretch">Does the pieces from a number on, so many.</param>
    /// <param name="leave">Takes back what a thread had.</param>
    public static void Run<T>(
        int count,
        int most,
        int threads,
        Func<T> enter,
        Action<int, int, T> stretch,
        Action<T> leave
    )
    {
        var job = new Job<T>(count, most, threads, enter, stretch, leave);
        int helpers = Math.Min(count, threads) - 1;
        for (int helper = Invite(job, helpers); helper < helpers; helper++)
        {
            ThreadPool.UnsafeQueueUserWorkItem(job, preferLocal: false);
        }
        job.Execute();
        job.Finish();
    }

    /// <summary>
    /// Other work, on the calling thread, in the place of one of a job's threads: jobs that begin meanwhile start one fewer,
    /// and this one joins the latest of them when its work is done. So no more threads run than were asked for, and none
    /// is put off in the middle of a piece that the others then wait for.
    /// </summary>
    public static T Aside<T>(Func<T> work)
    {
        ArgumentNullException.ThrowIfNull(work);
        var guest = new Guest();
        lock (Guests)
        {
            Guests.Add(guest);
        }
        try
        {
            return work();
        }
        finally
        {
            lock (Guests)
            {
                Guests.Remove(guest);
            }
            guest.Invitation?.Execute();
        }
    }

    /// <summary>Asks threads whose work aside is not done yet.</summary>
    /// <returns>How many.</returns>
    private static int Invite(IThreadPoolWorkItem job, int most)
    {
        lock (Guests)
        {
            int invited = Math.Min(most, Guests.Count);
            for (int i = 0; i < invited; i++)
            {
                Guests[i].Invitation = job;
            }
            return invited;
        }
    }

    private sealed class Guest
    {
        public IThreadPoolWorkItem? Invitation { get; set; }
    }

    private sealed class Job<T>(
        int count,
        int most,
        int threads,
        Func<T> enter,
        Action<int, int, T> stretch,
        Action<T> leave
    ) : IThreadPoolWorkItem
    {
        private readonly object left = new();
        private int next;
        private int inside;
        private Exception? failure;

        public void Execute()
        {
            // Counted before it takes anything: who sees nobody inside and nothing left has seen the end.
            Interlocked.Increment(ref inside);
            try
            {
                if (Take() is { Length: > 0 } taken)
                {
                    Work(taken);
                }
            }
            catch (Exception e)
            {
                Interlocked.CompareExchange(ref failure, e, null);
                Volatile.Write(ref next, count);
            }
            if (Interlocked.Decrement(ref inside) == 0)
            {
                lock (left)
                {
                    Monitor.Pulse(left);
                }
            }
        }

        /// <summary>Waits for those who are at their last piece.</summary>
        public void Finish()
        {
            var spin = new SpinWait();
            while (Volatile.Read(ref inside) > 0 && !spin.NextSpinWillYield)
            {
                spin.SpinOnce();
            }
            lock (left)
            {
                while (Volatile.Read(ref inside) > 0)
                {
                    Monitor.Wait(left);
                }
            }
            if (failure is not null)
            {
                ExceptionDispatchInfo.Throw(failure);
            }
        }

        private void Work((int First, int Length) taken)
        {
            var own = enter();
            try
            {
                for (; taken.Length > 0; taken = Take())
                {
                    stretch(taken.First, taken.Length, own);
                }
            }
            finally
            {
                leave(own);
            }
        }

        private (int First, int Length) Take()
        {
            while (true)
            {
                int first = Volatile.Read(ref next);
                int length = Math.Min(Math.Clamp((count - first) / (2 * threads), 1, most), count - first);
                if (length <= 0 || Interlocked.CompareExchange(ref next, first + length, first) == first)
                {
                    return (first, Math.Max(0, length));
                }
            }
        }
    }
}
