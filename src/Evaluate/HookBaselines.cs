using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>A reconstruction that took no training, measured as an SAE's is.</summary>
/// <param name="Hook">Whose activations it reconstructs.</param>
/// <param name="Size">Directions of PCA, or active latents of a random dictionary.</param>
/// <param name="Reconstruct">x to x̂, [R, D], of the caller's dispose scope.</param>
internal sealed record Baseline(HookPoint Hook, int Size, Func<Tensor, Tensor> Reconstruct)
{
    /// <summary>One column: |x - x̂|².</summary>
    public GroupedSums SquaredError { get; } = new(1);

    public SpliceScore Spliced { get; } = new();

    /// <summary>Takes a batch in, but for its splice.</summary>
    /// <returns>That splice, of the caller's dispose scope.</returns>
    public Splice Add(CleanBatch clean)
    {
        var xBTD = clean.AtHook[Hook];
        int d = (int)xBTD.shape[2];
        var reconstructionRD = Reconstruct(xBTD.reshape(-1, d));
        float[] x = clean.ValuesAt(Hook);
        float[] y = CpuKernels.ToArray<float>(reconstructionRD);
        for (int row = 0; row < clean.Places.Length; row++)
        {
            var (error, _, _, _) = ReconstructionMetrics.Products(x.AsSpan(row * d, d), y.AsSpan(row * d, d));
            SquaredError.Add(clean.Places[row], [error]);
        }
        return new Splice(Spliced, Hook, reconstructionRD.view(xBTD.shape));
    }
}

/// <summary>
/// What an SAE at one hook must beat to mean something: PCA with as many directions as the SAE has latents active, and a
/// dictionary of as many random directions of which the same number is kept. Both are shared by SAEs of one size.
/// </summary>
internal sealed class HookBaselines : IDisposable
{
    private readonly HookPoint hook;
    private readonly ulong seed;
    private readonly Dictionary<int, Baseline> pca = [];
    private readonly Dictionary<(int Features, int K), Baseline> random = [];
    private readonly List<Autoencoder> dictionaries = [];

    /// <param name="hook">Where reconstructions belong.</param>
    /// <param name="components">Fitted to training activations there; owned.</param>
    /// <param name="seed">Of the random dictionaries.</param>
    public HookBaselines(HookPoint hook, PrincipalComponents components, ulong seed) =>
        (this.hook, Components, this.seed) = (hook, components, seed);

    public PrincipalComponents Components { get; }

    /// <summary>Every one asked for so far.</summary>
    public IEnumerable<Baseline> All => [.. pca.Values, .. random.Values];

    /// <summary>PCA with <paramref name="l0"/> directions, or as many as there are.</summary>
    public Baseline Pca(int l0)
    {
        int directions = Math.Min(l0, Components.Width);
        if (!pca.TryGetValue(directions, out var found))
        {
            found = new Baseline(hook, directions, xRD => Components.Reconstruct(xRD, directions));
            pca.Add(directions, found);
        }
        return found;
    }

    /// <summary>
    /// x̂ = mean + W'f, f = ReLU(TopK(W (x - mean))), the rows of W [F, D] Gaussian vectors brought to length 1.
    /// </summary>
    public Baseline Random(int features, int l0, Device device)
    {
        int k = Math.Min(l0, features);
        if (!random.TryGetValue((features, k), out var found))
        {
            var sae = RandomDictionary(features, k).To(device);
            dictionaries.Add(sae);
            found = new Baseline(hook, k, xRD => sae.Decode(sae.Encode(xRD)));
            random.Add((features, k), found);
        }
        return found;
    }

    public void Dispose()
    {
        dictionaries.ForEach(sae => sae.Dispose());
        Components.Dispose();
    }

    private TopKAutoencoder RandomDictionary(int features, int k)
    {
        using var scope = NewDisposeScope();
        int width = Components.Width;
        var stream = new Xoshiro256(seed, "evaluate", $"random dictionary {hook} {features}");
        var values = new float[(long)features * width];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = (float)stream.NextGaussian();
        }
        var rowsFD = nn.functional.normalize(tensor(values, features, width), dim: 1);
        return new TopKAutoencoder(
            rowsFD.DetachFromDisposeScope(),
            zeros(features).DetachFromDisposeScope(),
            rowsFD.clone().DetachFromDisposeScope(),
            Components.MeanD.clone().DetachFromDisposeScope(),
            k
        );
    }
}
