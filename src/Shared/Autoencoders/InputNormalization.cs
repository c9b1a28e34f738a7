using static TorchSharp.torch;

namespace Pipeline.Shared.Autoencoders;

/// <summary>What an autoencoder does to each activation before it encodes it, and undoes after decoding.</summary>
public enum InputNormalization
{
    None,

    /// <summary>(x - mean) / (std + 1e-5), std unbiased.</summary>
    LayerNorm,

    /// <summary>x √D / |x|.</summary>
    ConstantNorm,
}

/// <param name="ScaleB1">Factor of each row's decoding.</param>
/// <param name="ShiftB1">Added to each row after that, or null.</param>
public sealed record InputStatistics(Tensor ScaleB1, Tensor? ShiftB1)
{
    private const double Epsilon = 1e-5;

    /// <summary>The normalised activations and what it takes to undo it.</summary>
    public static (Tensor NormalizedBD, InputStatistics? Statistics) Normalize(Tensor xBD, InputNormalization kind)
    {
        switch (kind)
        {
            case InputNormalization.LayerNorm:
                var meanB1 = xBD.mean([-1], keepdim: true);
                var centeredBD = xBD - meanB1;
                var deviationB1 = centeredBD.std([-1], unbiased: true, keepdim: true);
                return (centeredBD / (deviationB1 + Epsilon), new InputStatistics(deviationB1, meanB1));
            case InputNormalization.ConstantNorm:
                var factorB1 = Math.Sqrt(xBD.shape[^1]) / xBD.norm(-1, keepdim: true);
                return (xBD * factorB1, new InputStatistics(1 / factorB1, null));
            default:
                return (xBD, null);
        }
    }

    public Tensor Undo(Tensor decodedBD)
    {
        var scaledBD = decodedBD * ScaleB1;
        return ShiftB1 is null ? scaledBD : scaledBD + ShiftB1;
    }

    internal InputStatistics MoveToOuterDisposeScope() =>
        new(ScaleB1.MoveToOuterDisposeScope(), ShiftB1?.MoveToOuterDisposeScope());
}
