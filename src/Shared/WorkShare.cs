namespace Pipeline.Shared;

/// <summary>Which of several workers this is: it takes every <paramref name="Count"/>th piece of work, from <paramref name="Index"/> on.</summary>
/// <param name="Index">From 0.</param>
/// <param name="Count">Workers in all.</param>
public sealed record WorkShare(int Index, int Count)
{
    public bool Includes(int piece) => piece % Count == Index;
}
