namespace Pipeline.Shared.Activations;

/// <summary>Activations as a table of rows in harvest order, [N, D].</summary>
public interface IActivationRows
{
    /// <summary>N.</summary>
    long Rows { get; }

    /// <summary>D, values a row.</summary>
    int Width { get; }

    /// <summary>The hook's resolved name.</summary>
    string Hook { get; }

    /// <summary>Copies rows [firstRow, firstRow + count), widened to float32.</summary>
    /// <param name="firstRow">From 0.</param>
    /// <param name="count">Rows, n.</param>
    /// <param name="destinationND">Row-major [n, D].</param>
    void CopyRows(long firstRow, int count, Span<float> destinationND);
}
