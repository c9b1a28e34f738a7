using static TorchSharp.torch;

namespace Pipeline.Shared.Tensors;

/// <summary>Named tensors in a file, checked as far as possible before any is read.</summary>
public interface ITensorFile : IDisposable
{
    string Path { get; }

    /// <summary>The tensors' names and shapes.</summary>
    IReadOnlyDictionary<string, long[]> Shapes { get; }

    /// <summary>The tensor in its own element type, on the CPU.</summary>
    /// <exception cref="CorruptArtifactException">No such tensor.</exception>
    Tensor Load(string name);

    /// <summary>The floating-point tensor as float32 on the CPU; float16 and bfloat16 widen exactly.</summary>
    /// <exception cref="CorruptArtifactException">No such tensor, or not a floating-point one.</exception>
    Tensor LoadFloat32(string name);

    /// <summary><see cref="LoadFloat32(string)"/> into memory that is there: nothing of the tensor's size is taken beside it where the format allows.</summary>
    /// <param name="name">The tensor.</param>
    /// <param name="target">Contiguous float32 on the CPU, with as many values.</param>
    /// <exception cref="CorruptArtifactException">No such tensor, or not a floating-point one.</exception>
    void LoadFloat32Into(string name, Tensor target);
}

public static class TensorFile
{
    /// <summary>The tensor as float32, which must have the given shape.</summary>
    /// <param name="file">The file.</param>
    /// <param name="name">The tensor's name.</param>
    /// <param name="impliedBy">The file or rule the shape follows from, for the message.</param>
    /// <param name="shape">The shape.</param>
    /// <exception cref="CorruptArtifactException">No such tensor, another shape, or not a floating-point type.</exception>
    public static Tensor LoadFloat32(this ITensorFile file, string name, string impliedBy, params long[] shape)
    {
        file.RequireShape(name, impliedBy, shape);
        return file.LoadFloat32(name);
    }

    /// <inheritdoc cref="LoadFloat32(ITensorFile, string, string, long[])"/>
    public static void RequireShape(this ITensorFile file, string name, string impliedBy, params long[] shape)
    {
        ArgumentNullException.ThrowIfNull(file);
        string expected = $"[{string.Join(", ", shape)}], as {impliedBy} implies";
        if (!file.Shapes.TryGetValue(name, out long[]? found))
        {
            throw Mismatch(file, name, "no such tensor", expected);
        }
        if (!found.AsSpan().SequenceEqual(shape))
        {
            throw Mismatch(file, name, $"shape [{string.Join(", ", found)}]", expected);
        }
    }

    private static CorruptArtifactException Mismatch(ITensorFile file, string name, string found, string expected) =>
        new(
            new Fault(
                $"{file.Path}: tensor {name}",
                found,
                expected,
                "Take configuration and weights of the same release"
            ).ToString()
        );
}
