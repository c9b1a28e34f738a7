using System.Numerics;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Shared.Models;

/// <summary>
/// Cosine and sine [positions, rotated dimensions / 2] of a model's rotary positions, made anew when a longer input comes.
/// Forwards beside each other may ask for them: what one of them was given stays as it is until all are disposed.
/// </summary>
internal sealed class RotaryTables(RotaryConfig settings, int headWidth, Device device) : IDisposable
{
    private readonly Lock making = new();
    private readonly List<(Tensor Cos, Tensor Sin)> made = []; // the longest last

    /// <summary>Tables of at least so many positions, which stay this object's.</summary>
    public (Tensor Cos, Tensor Sin) For(long positions)
    {
        lock (making)
        {
            if (made.Count == 0 || made[^1].Cos.shape[0] < positions)
            {
                // Of twice as many each time: all of them together take no more than the next would.
                made.Add(Make((long)BitOperations.RoundUpToPowerOf2((ulong)positions)));
            }
            return made[^1];
        }
    }

    public void Dispose()
    {
        foreach (var (cos, sin) in made)
        {
            cos.Dispose();
            sin.Dispose();
        }
        made.Clear();
    }

    private (Tensor Cos, Tensor Sin) Make(long positions)
    {
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
        return (
            tensor(cos, shape).to(device).DetachFromDisposeScope(),
            tensor(sin, shape).to(device).DetachFromDisposeScope()
        );
    }
}
