namespace Pipeline.Shared.Kernels;

/// <summary>
/// Work cut into pieces that threads take one at a time. A thread that is held up, by another process or by a shard being
/// written, leaves its pieces to the others: nobody waits for more than one of them.
/// </summary>
internal static class Pieces
{
    /// <param name="count">Pieces.</param>
    /// <param name="threads">At most so many, the caller's among them.</param>
    /// <param name="piece">Does the piece of a number.</param>
    public static void Run(int count, int threads, Action<int> piece) =>
        Run(count, threads, () => 0, (number, _) => piece(number), _ => { });

    /// <summary>The same with something of each thread's own.</summary>
    public static void Run<T>(int count, int threads, Func<T> enter, Action<int, T> piece, Action<T> leave)
    {
        int next = -1;
        int workers = Math.Min(count, threads);
        if (workers <= 1)
        {
            Work();
            return;
        }
        Parallel.For(0, workers, new ParallelOptions { MaxDegreeOfParallelism = workers }, _ => Work());

        void Work()
        {
            var own = enter();
            try
            {
                for (int number; (number = Interlocked.Increment(ref next)) < count; )
                {
                    piece(number, own);
                }
            }
            finally
            {
                leave(own);
            }
        }
    }
}
