namespace Pipeline.Shared.Models;

/// <summary>Some of a model's layers, equal to another set of the same layers.</summary>
public sealed class LayerSet(IEnumerable<int> layers) : IEquatable<LayerSet>
{
    private readonly SortedSet<int> layers = [.. layers];

    public bool Contains(int layer) => layers.Contains(layer);

    public bool Equals(LayerSet? other) => other is not null && layers.SetEquals(other.layers);

    public override bool Equals(object? obj) => Equals(obj as LayerSet);

    public override int GetHashCode() => layers.Aggregate(17, HashCode.Combine);

    public override string ToString() => string.Join(", ", layers);
}
