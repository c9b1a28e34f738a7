namespace Pipeline.Shared.Activations;

/// <summary>Rows that are in memory together: read range by range, drawn in the order of <paramref name="Places"/>.</summary>
/// <param name="Ranges">Ranges of consecutive dataset rows, ascending.</param>
/// <param name="Places">The i-th row drawn is number <c>Places[i]</c> of the rows as read.</param>
public sealed record RowWindow(IReadOnlyList<(long FirstRow, int Count)> Ranges, IReadOnlyList<int> Places);
