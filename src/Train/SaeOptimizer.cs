using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// An SAE's optimizer: with a unit decoder the gradient's component along each decoder row removed; joint clipping; Adam;
/// decoder rows back to unit norm. Two forms of it agree: any device and type, and one pass over memory on the CPU.
/// </summary>
internal abstract class SaeOptimizer
{
    /// <summary>Steps taken.</summary>
    public abstract long Steps { get; set; }

    /// <summary>First and second moments by name.</summary>
    public abstract IEnumerable<(string Name, Tensor Value)> State();

    /// <summary>Forgets the moments of the given rows of a parameter.</summary>
    public abstract void ForgetRows(string name, Tensor rowsN);

    /// <summary>One update with the gradients that are there; clears them.</summary>
    /// <param name="learningRate">Of this step.</param>
    /// <param name="rows">What is known of the gradients of W_enc and W_dec; null where they are to be read whole.</param>
    /// <returns>The gradients' joint norm before clipping.</returns>
    public abstract double Step(double learningRate, RowGradients? rows);

    /// <summary>The form for an SAE's device and type.</summary>
    public static SaeOptimizer For(SaeLearner learner, SaeRecipe recipe) =>
        learner.Parameters.All(p => p.Value is { device_type: DeviceType.CPU, dtype: ScalarType.Float32 })
            ? new CpuSaeOptimizer(learner, recipe)
            : new PlainSaeOptimizer(learner, recipe);
}

/// <summary>By tensor operations.</summary>
internal sealed class PlainSaeOptimizer(SaeLearner learner, SaeRecipe recipe) : SaeOptimizer
{
    private readonly Adam adam = new(learner.Parameters, recipe.Beta1, SaeRecipe.Beta2);

    public override long Steps
    {
        get => adam.Steps;
        set => adam.Steps = value;
    }

    public override IEnumerable<(string Name, Tensor Value)> State() => adam.State();

    public override void ForgetRows(string name, Tensor rowsN) => adam.ForgetRows(name, rowsN);

    /// <exception cref="ArgumentException">Gradients of some rows alone: kernels give those to the other form.</exception>
    public override double Step(double learningRate, RowGradients? rows)
    {
        if (rows is not null)
        {
            throw new ArgumentException("Gradients of some rows alone are for the CPU's form.", nameof(rows));
        }
        if (recipe.UnitDecoder)
        {
            RemoveGradientAlongDecoderRows();
        }
        double norm = adam.ClipGradients(recipe.GradientClip);
        adam.Step(learningRate);
        if (recipe.UnitDecoder)
        {
            NormalizeDecoderRows();
        }
        return norm;
    }

    /// <summary>The norm is fixed, so a step along a row would only be undone.</summary>
    private void RemoveGradientAlongDecoderRows()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var W_dec = learner.Sae.W_dec;
        var unitFD = W_dec / (W_dec.norm(1, keepdim: true) + recipe.ProjectionEpsilon);
        var gradientFD = W_dec.grad!;
        gradientFD.sub_((gradientFD * unitFD).sum(-1, keepdim: true) * unitFD);
    }

    private void NormalizeDecoderRows()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var W_dec = learner.Sae.W_dec;
        double epsilon = finfo(W_dec.dtype).eps; // keeps a division by a zero norm finite
        W_dec.div_(W_dec.norm(1, keepdim: true) + epsilon);
    }
}
