namespace Pipeline.Shared.Tensors.Pickle;

/// <summary>One of the few names a state dict may refer to. Calling one builds data; none runs code.</summary>
internal sealed class PickleGlobal
{
    private static readonly Dictionary<string, PickleGlobal> Known = new[]
    {
        new PickleGlobal("collections.OrderedDict", Dictionary),
        new PickleGlobal("torch._utils._rebuild_tensor_v2", Tensor),
        new PickleGlobal("torch._utils._rebuild_parameter", Parameter),
        new PickleGlobal(
            "torch.Size",
            arguments => arguments is [object?[] sizes] ? sizes : throw Misused("torch.Size")
        ),
    }
        .Concat(PickledStorage.Names.Select(name => new PickleGlobal($"torch.{name}", null) { StorageType = name }))
        .ToDictionary(global => global.Name, StringComparer.Ordinal);

    private readonly Func<object?[], object?>? call;

    private PickleGlobal(string name, Func<object?[], object?>? call) => (Name, this.call) = (name, call);

    public string Name { get; }

    /// <summary>The storage class this names, or null.</summary>
    public string? StorageType { get; private init; }

    /// <exception cref="PickleRefusedException">A name that is not on the list.</exception>
    public static PickleGlobal Find(string name) =>
        Known.TryGetValue(name, out var global)
            ? global
            : throw new PickleRefusedException(
                $"a reference to {name}, which would run code",
                "a state dict that refers to " + string.Join(", ", Known.Keys.Take(4)) + " and torch storages only"
            );

    public object? Call(object?[] arguments) => call is null ? throw Misused(Name) : call(arguments);

    private static PickledDictionary Dictionary(object?[] arguments) =>
        arguments.Length == 0 ? new PickledDictionary() : throw Misused("collections.OrderedDict");

    /// <summary>(storage, offset, size, stride, requires_grad, backward_hooks[, metadata])</summary>
    private static PickledTensor Tensor(object?[] arguments)
    {
        if (
            arguments.Length < 4
            || arguments[0] is not PickledStorageReference storage
            || arguments[1] is not (long offset and >= 0)
            || arguments[2] is not object?[] size
            || arguments[3] is not object?[] stride
            || size.Length != stride.Length
            || size.Length > 16
            || !size.Concat(stride).All(number => number is >= 0L)
        )
        {
            throw Misused("torch._utils._rebuild_tensor_v2");
        }
        var tensor = new PickledTensor(storage, offset, [.. size.Cast<long>()], [.. stride.Cast<long>()]);
        RequireWithinStorage(tensor);
        return tensor;
    }

    private static PickledTensor Parameter(object?[] arguments) =>
        arguments is [PickledTensor tensor, ..] ? tensor : throw Misused("torch._utils._rebuild_parameter");

    /// <summary>
    /// The last element lies in the storage, and there are no more elements than the storage has: an expanded view of a
    /// few bytes could otherwise ask for any amount of memory.
    /// </summary>
    private static void RequireWithinStorage(PickledTensor tensor)
    {
        try
        {
            long count = 1;
            long last = tensor.Offset;
            for (int axis = 0; axis < tensor.Shape.Length; axis++)
            {
                count = checked(count * tensor.Shape[axis]);
                last = checked(last + (Math.Max(0, tensor.Shape[axis] - 1) * tensor.Strides[axis]));
            }
            if (count == 0 || (last < tensor.Storage.Count && count <= tensor.Storage.Count))
            {
                return;
            }
        }
        catch (OverflowException) { }
        throw new PickleRefusedException(
            $"a tensor of shape [{string.Join(", ", tensor.Shape)}], strides [{string.Join(", ", tensor.Strides)}] at {tensor.Offset}",
            $"one within its storage of {tensor.Storage.Count} elements"
        );
    }

    private static PickleRefusedException Misused(string name) =>
        new($"{name} called with other arguments than torch.save's", "a state dict as torch.save writes it");
}
