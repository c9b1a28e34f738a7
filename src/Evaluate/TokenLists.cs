using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>Lists of tokens of which only what happens at the last matters, as one batch.</summary>
internal static class TokenLists
{
    /// <summary>Shorter lists are filled up to the longest: what follows a token does not matter to a causal model.</summary>
    /// <param name="listsN">At least one token each.</param>
    /// <param name="device">Where the tensors are made.</param>
    /// <returns>int64 [N, T], and the row of each list's last token in [N x T].</returns>
    public static (Tensor TokensNT, Tensor LastRowsN) Batch(IReadOnlyList<int[]> listsN, Device device)
    {
        int positions = listsN.Max(list => list.Length);
        long[] ids =
        [
            .. listsN.SelectMany(list =>
                Enumerable.Range(0, positions).Select(t => (long)list[Math.Min(t, list.Length - 1)])
            ),
        ];
        long[] lastRows = [.. listsN.Select((list, n) => ((long)n * positions) + list.Length - 1)];
        return (tensor(ids, listsN.Count, positions, device: device), tensor(lastRows, device: device));
    }
}
