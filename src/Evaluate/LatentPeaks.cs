using Pipeline.Shared.Kernels;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>The token on which each latent is highest; of equal ones the first.</summary>
internal sealed class LatentPeaks(int features)
{
    private readonly float[] highest = new float[features];
    private readonly long[] tokens = new long[features];

    /// <summary>Everything kept so far, by name.</summary>
    public IEnumerable<(string Name, Tensor Value)> State() =>
        [("highest", tensor(highest)), ("tokens", tensor(tokens))];

    public void Restore(Func<string, Tensor> load)
    {
        CpuKernels.ToArray<float>(load("highest")).CopyTo(highest, 0);
        CpuKernels.ToArray<long>(load("tokens")).CopyTo(tokens, 0);
    }

    /// <param name="first">The first row's place among all evaluated tokens.</param>
    /// <param name="rows">R.</param>
    /// <param name="indices">[R, K], row-major.</param>
    /// <param name="values">[R, K], row-major.</param>
    public void Add(long first, int rows, long[] indices, float[] values)
    {
        int kept = indices.Length / rows;
        for (int j = 0; j < indices.Length; j++)
        {
            if (values[j] > highest[indices[j]])
            {
                (highest[indices[j]], tokens[indices[j]]) = (values[j], first + (j / kept));
            }
        }
    }

    /// <summary>The token's place among all evaluated tokens; null for a latent that never fired.</summary>
    public long? Of(int latent) => highest[latent] > 0 ? tokens[latent] : null;
}
