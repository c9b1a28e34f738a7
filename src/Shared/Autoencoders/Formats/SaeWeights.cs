using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders.Formats;

/// <summary>The tensors of one SAE, read with the shapes D and F give them; they outlive the caller's dispose scope.</summary>
internal sealed class SaeWeights(ITensorFile file, string impliedBy, int width, int features)
{
    /// <summary>[F, D]</summary>
    public Tensor FeaturesByWidth(string name) => Load(name, features, width);

    /// <summary>Stored as [D, F]; given as [F, D].</summary>
    public Tensor WidthByFeatures(string name)
    {
        using var stored = file.LoadFloat32(name, impliedBy, width, features);
        return stored.t().contiguous().DetachFromDisposeScope();
    }

    /// <summary>[F]</summary>
    public Tensor PerFeature(string name) => Load(name, features);

    /// <summary>[D]</summary>
    public Tensor PerWidth(string name) => Load(name, width);

    /// <summary>[D, D]</summary>
    public Tensor WidthByWidth(string name) => Load(name, width, width);

    private Tensor Load(string name, params long[] shape) =>
        file.LoadFloat32(name, impliedBy, shape).DetachFromDisposeScope();
}
