using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>Cosine and sine [positions, rotated dimensions / 2] of a model's rotary positions, made anew when a longer input comes.</summary>
internal sealed class RotaryTables(RotaryConfig settings, int headWidth, Device device) : IDisposable
{
    private (Tensor Cos, Tensor Sin)? made;

    /// <summary>Tables of at least so many positions, which stay this object's.</summary>
    public (Tensor Cos, Tensor Sin) For(long positions)
    {
        if (made is { } tables && tables.Cos.shape[0] >= positions)
        {
            return tables;
        }
        Dispose();
        double[] inverse = settings.InverseFrequencies(headWidth);
        var cos = new float[positions * inverse.Length];
        var sin = new float[positions * inverse.Length];
        for (int position = 0; position < positions; position++)
        {
            for (int i = 0; i < inverse.Length; i++)
            {
                float angle = position * (float)inverse[i]; // float32, as transformers multiplies
                cos[(position * inverse.Length) + i] = MathF.Cos(angle);
                sin[(position * inverse.Length) + i] = MathF.Sin(angle);
            }
        }
        long[] shape = [positions, inverse.Length];
        tables = (
            tensor(cos, shape).to(device).DetachFromDisposeScope(),
            tensor(sin, shape).to(device).DetachFromDisposeScope()
        );
        made = tables;
        return tables;
    }

    public void Dispose()
    {
        made?.Cos.Dispose();
        made?.Sin.Dispose();
        made = null;
    }
}
