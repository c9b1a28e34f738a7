using System.Collections;
using System.Globalization;

namespace Pipeline.Shared.Tensors.Pickle;

/// <summary>A dictionary out of a pickle, in its order; numbers as keys (optimizer states have them) become text.</summary>
public sealed class PickledDictionary : IReadOnlyDictionary<string, object?>
{
    private readonly OrderedDictionary<string, object?> items = new(StringComparer.Ordinal);

    public object? this[string key] => items[key];

    public IEnumerable<string> Keys => items.Keys;

    public IEnumerable<object?> Values => items.Values;

    public int Count => items.Count;

    public bool ContainsKey(string key) => items.ContainsKey(key);

    public bool TryGetValue(string key, out object? value) => items.TryGetValue(key, out value);

    public IEnumerator<KeyValuePair<string, object?>> GetEnumerator() => items.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    internal void Set(object key, object? value) =>
        items[Convert.ToString(key, CultureInfo.InvariantCulture)!] = value is PickleGlobal or PickledStorageReference
            ? throw new PickleRefusedException("a function or storage as a value", "names, numbers and tensors")
            : value;
}
