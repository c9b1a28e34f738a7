namespace Pipeline.Shared.Kernels.Screening;

/// <summary>Latents kept of each row of a batch: entries of a row lie together, in ascending order of latent.</summary>
/// <param name="rows">B.</param>
/// <param name="entries">At most so many are kept of the whole batch.</param>
public sealed class SparseRows(int rows, int entries)
{
    /// <summary>B.</summary>
    public int Rows => rows;

    /// <summary>A row's first entry, [B].</summary>
    public int[] FirstB { get; } = new int[rows];

    /// <summary>The end of a row's entries, [B].</summary>
    public int[] EndB { get; } = new int[rows];

    /// <summary>Each entry's latent.</summary>
    public int[] Latents { get; } = new int[entries];

    /// <summary>Each entry's activation, positive.</summary>
    public float[] Values { get; } = new float[entries];
}
