namespace Pipeline.Shared.Activations;

/// <summary>The activations of two hooks at the same tokens: each row of the first, and after it the second's.</summary>
public sealed class PairedRows : IActivationRows
{
    private readonly IActivationRows first;
    private readonly IActivationRows second;

    /// <exception cref="ArgumentException">They differ in rows.</exception>
    public PairedRows(IActivationRows first, IActivationRows second)
    {
        ArgumentNullException.ThrowIfNull(first);
        ArgumentNullException.ThrowIfNull(second);
        if (first.Rows != second.Rows)
        {
            throw new ArgumentException($"{first.Hook} has {first.Rows} rows, {second.Hook} {second.Rows}.");
        }
        (this.first, this.second) = (first, second);
    }

    public long Rows => first.Rows;

    public int Width => first.Width + second.Width;

    /// <summary>The first's, so that the order of rows is its order.</summary>
    public string Hook => first.Hook;

    public void CopyRows(long firstRow, int count, Span<float> destinationND)
    {
        Interleave(first, 0, destinationND);
        Interleave(second, first.Width, destinationND);

        void Interleave(IActivationRows rows, int at, Span<float> destinationND)
        {
            var ownND = new float[count * rows.Width];
            rows.CopyRows(firstRow, count, ownND);
            for (int row = 0; row < count; row++)
            {
                ownND.AsSpan(row * rows.Width, rows.Width).CopyTo(destinationND[((row * Width) + at)..]);
            }
        }
    }
}
