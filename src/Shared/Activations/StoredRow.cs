namespace Pipeline.Shared.Activations;

/// <summary>A row where it lies in its shard's memory map.</summary>
/// <param name="values">Its first item.</param>
/// <param name="scale">Its factor, 1 where the stored type has none.</param>
internal readonly unsafe struct StoredRow(byte* values, float scale)
{
    public readonly byte* Values = values;
    public readonly float Scale = scale;
}
