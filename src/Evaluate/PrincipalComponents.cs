using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// The directions of greatest variance: the best linear reconstruction there is from a given number of numbers a token. An SAE
/// that does no better with as many active latents has found nothing that needs a dictionary.
/// </summary>
internal sealed class PrincipalComponents : IDisposable
{
    private readonly Tensor meanD;
    private readonly Tensor directionsDD;

    private PrincipalComponents(Tensor meanD, Tensor directionsDD, long rows) =>
        (this.meanD, this.directionsDD, Rows) = (meanD, directionsDD, rows);

    /// <summary>Rows they were fitted to.</summary>
    public long Rows { get; }

    public int Width => (int)meanD.shape[0];

    /// <summary>[D] float32.</summary>
    public Tensor MeanD => meanD;

    /// <summary>Mean and covariance in float64, block by block, then eigenvectors.</summary>
    /// <param name="blocksND">float32 rows, N of any number.</param>
    /// <param name="stopIfCancelled">Called after each block.</param>
    public static PrincipalComponents Fit(IEnumerable<Tensor> blocksND, Action stopIfCancelled)
    {
        using var scope = NewDisposeScope();
        Tensor? sumD = null;
        Tensor? productsDD = null;
        long rows = 0;
        foreach (var blockND in blocksND)
        {
            stopIfCancelled();
            using var block = NewDisposeScope();
            var xND = blockND.to(float64);
            sumD ??= zeros(xND.shape[1], float64).MoveToOuterDisposeScope();
            productsDD ??= zeros(xND.shape[1], xND.shape[1], float64).MoveToOuterDisposeScope();
            sumD.add_(xND.sum(0, keepdim: false));
            productsDD.addmm_(xND.t(), xND);
            rows += xND.shape[0];
        }
        var meanD = sumD! / rows;
        var covarianceDD = (productsDD! / rows) - outer(meanD, meanD);
        var (_, vectorsDD) = linalg.eigh(covarianceDD); // columns, by rising variance
        return new PrincipalComponents(
            meanD.to(float32).DetachFromDisposeScope(),
            vectorsDD.t().flip(0).to(float32).contiguous().DetachFromDisposeScope(),
            rows
        );
    }

    /// <summary>x̂ = mean + V'V (x - mean), V the first <paramref name="directions"/> directions.</summary>
    /// <param name="xRD">On any device.</param>
    /// <param name="directions">0 to D.</param>
    public Tensor Reconstruct(Tensor xRD, int directions)
    {
        using var scope = NewDisposeScope();
        var ownMeanD = meanD.to(xRD.device);
        var keptKD = directionsDD.narrow(0, 0, directions).to(xRD.device);
        return ((xRD - ownMeanD).matmul(keptKD.t()).matmul(keptKD) + ownMeanD).MoveToOuterDisposeScope();
    }

    public void Dispose()
    {
        meanD.Dispose();
        directionsDD.Dispose();
    }
}
