namespace Pipeline.Shared.Kernels;

/// <summary>
/// <see cref="Pieces"/> that begin when those of other groups have ended. Groups run as one job, so that threads do not wait for
/// each other at the end of each: put another between a group and what needs it, and the wait seldom comes up. A group runs once.
/// </summary>
/// <param name="count">Pieces.</param>
/// <param name="piece">Does the piece of a number.</param>
/// <param name="needed">Groups whose pieces all end before one of these begins.</param>
public sealed class PieceGroup(int count, Action<int> piece, params PieceGroup[] needed)
{
    private readonly int count = count;
    private readonly TaskCompletionSource ended = new();
    private int left = count;

    /// <summary>Does the pieces of all groups, taken in their order.</summary>
    /// <param name="groups">Each after those it needs.</param>
    /// <param name="threads">At most so many, the caller's among them.</param>
    public static void Run(IReadOnlyList<PieceGroup> groups, int threads)
    {
        ArgumentNullException.ThrowIfNull(groups);
        var pieces = groups
            .SelectMany(group => Enumerable.Range(0, group.count).Select(i => (Group: group, i)))
            .ToList();
        Pieces.Run(pieces.Count, threads, number => pieces[number].Group.Do(pieces[number].i));
    }

    private void Do(int number)
    {
        try
        {
            // Their pieces come earlier, and so were taken: those who are at them wait for none that was not.
            foreach (var group in needed.Where(group => group.count > 0))
            {
                group.ended.Task.Wait();
            }
            piece(number);
        }
        finally
        {
            // Though it failed: others wait for it, and the caller hears of it.
            if (Interlocked.Decrement(ref left) == 0)
            {
                ended.SetResult();
            }
        }
    }
}
