using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// Adam (Kingma and Ba 2015), with decoupled weight decay on matrices where asked for (AdamW, Loshchilov and Hutter 2019).
/// Its whole state is two tensors a parameter and the number of steps taken, so that a checkpoint restores it bit for bit.
/// </summary>
internal sealed class Adam
{
    private readonly double beta1;
    private readonly double beta2;
    private readonly double weightDecay;
    private readonly double epsilon;
    private readonly List<(string Name, Tensor Parameter, Tensor Mean, Tensor Square)> entries;

    public Adam(
        IEnumerable<(string Name, Tensor Parameter)> parameters,
        double beta1,
        double beta2,
        double weightDecay = 0,
        double epsilon = 1e-8
    )
    {
        (this.beta1, this.beta2, this.weightDecay, this.epsilon) = (beta1, beta2, weightDecay, epsilon);
        entries =
        [
            .. parameters.Select(p =>
                (
                    p.Name,
                    p.Parameter,
                    zeros_like(p.Parameter).DetachFromDisposeScope(),
                    zeros_like(p.Parameter).DetachFromDisposeScope()
                )
            ),
        ];
    }

    /// <summary>Steps taken.</summary>
    public long Steps { get; set; }

    /// <summary>First and second moments by name.</summary>
    public IEnumerable<(string Name, Tensor Value)> State() =>
        entries.SelectMany(e => new[] { ($"{e.Name}.exp_avg", e.Mean), ($"{e.Name}.exp_avg_sq", e.Square) });

    /// <summary>Forgets the moments of the given rows of a parameter.</summary>
    public void ForgetRows(string name, Tensor rowsN)
    {
        var (_, _, mean, square) = entries.Single(entry => entry.Name == name);
        mean.index_fill_(0, rowsN, 0);
        square.index_fill_(0, rowsN, 0);
    }

    /// <summary>
    /// Scales gradients to a joint norm of at most <paramref name="maximum"/> (0 leaves them); returns the norm before that.
    /// </summary>
    public double ClipGradients(double maximum)
    {
        using var scope = NewDisposeScope();
        double squared = entries.Sum(e => e.Parameter.grad!.square().sum().to(float64).item<double>());
        double norm = Math.Sqrt(squared);
        if (maximum > 0 && norm > maximum)
        {
            foreach (var entry in entries)
            {
                entry.Parameter.grad!.mul_(maximum / (norm + 1e-6));
            }
        }
        return norm;
    }

    /// <summary>One update with the gradients that are there; clears them.</summary>
    public void Step(double learningRate)
    {
        using var none = no_grad();
        Steps++;
        double correction1 = 1 - Math.Pow(beta1, Steps);
        double correction2 = 1 - Math.Pow(beta2, Steps);
        foreach (var (_, parameter, mean, square) in entries)
        {
            using var scope = NewDisposeScope();
            var gradient = parameter.grad!;
            mean.mul_(beta1).add_(gradient, 1 - beta1);
            square.mul_(beta2).addcmul_(gradient, gradient, 1 - beta2);
            if (weightDecay > 0 && parameter.dim() > 1)
            {
                parameter.mul_(1 - (learningRate * weightDecay));
            }
            var denominator = (square / correction2).sqrt_().add_(epsilon);
            parameter.addcdiv_(mean, denominator, -learningRate / correction1);
            gradient.zero_();
        }
    }
}
