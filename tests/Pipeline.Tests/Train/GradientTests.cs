using Pipeline.Shared.Autoencoders;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>
/// Each term of each loss in float64: the parameters it moves, and no others; their gradients against finite differences
/// where the term is smooth, against the stated estimator where it is not.
/// </summary>
public sealed class GradientTests : IDisposable
{
    private const int B = 7;
    private const int D = 5;
    private const int F = 12;
    private static readonly double[] Directions = [1, 2, 3];

    private readonly DisposeScope scope = NewDisposeScope();
    private readonly Generator generator = new(17, CPU);
    private readonly Tensor xBD;

    public GradientTests() => xBD = Normal(B, D);

    private static string[] Encoder => ["W_enc", "b_enc", "b_dec"]; // b_dec through x - b_dec
    private static string[] Decoder => ["W_dec", "b_dec"];
    private static string[] All => ["W_enc", "b_enc", "W_dec", "b_dec"];

    public void Dispose()
    {
        scope.Dispose();
        generator.Dispose();
    }

    [Theory]
    [InlineData(false, 1)]
    [InlineData(true, 1)]
    [InlineData(false, 0.5)]
    public void Standard(bool april, double p)
    {
        var sae = new StandardAutoencoder(Normal(F, D), Normal(F), Normal(F, D), Normal(D));
        SaeLosses Losses() => new StandardObjective(0.3, april) { P = p }.Of(sae, xBD, LossContext.Plain);

        Moves(sae.Parameters, () => Losses().Reconstruction, All);
        Moves(sae.Parameters, () => Term(Losses(), p == 1 ? "l1" : "lp"), april ? All : Encoder);
        Moves(sae.Parameters, () => Losses().Total, All);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Gated(bool weighs)
    {
        var sae = new GatedAutoencoder(Normal(F, D), Normal(F), Normal(F), Normal(F), Normal(F, D), Normal(D));
        SaeLosses Losses() => new GatedObjective(0.3, weighs).Of(sae, xBD, LossContext.Plain);

        Moves(sae.Parameters, () => Losses().Reconstruction, ["W_enc", "r_mag", "b_mag", "W_dec", "b_dec"]);
        Moves(
            sae.Parameters,
            () => Term(Losses(), "l1"),
            weighs ? ["W_enc", "b_gate", "W_dec", "b_dec"] : ["W_enc", "b_gate", "b_dec"]
        );
        // The decoder stands still in the auxiliary term, so b_dec moves through x - b_dec alone.
        var W_dec = sae.W_dec.detach().clone();
        var b_dec = sae.b_dec.detach().clone();
        Tensor WithFrozenDecoder()
        {
            var gateBF = nn.functional.linear(xBD - sae.b_dec, sae.W_enc) + sae.b_gate;
            return LossTerms.SquaredError(xBD, nn.functional.relu(gateBF).matmul(W_dec) + b_dec);
        }
        Moves(sae.Parameters, () => Term(Losses(), "aux_loss"), ["W_enc", "b_gate", "b_dec"], WithFrozenDecoder);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void TopK_and_BatchTopK(bool overBatch)
    {
        var sae = new TopKAutoencoder(Normal(F, D), Normal(F), Normal(F, D), Normal(D), 3);
        var objective = new KSparseObjective
        {
            K = 3,
            OverBatch = overBatch,
            MultiCoefficient = overBatch ? 0 : 0.125,
        };
        SaeLosses Losses() => objective.Of(sae, xBD, LossContext.Plain);

        Moves(sae.Parameters, () => Losses().Reconstruction, All);
        Moves(sae.Parameters, () => Losses().Total, All);
        if (!overBatch)
        {
            Moves(sae.Parameters, () => Term(Losses(), "mse_4k"), All);
        }
    }

    [Fact]
    public void Each_Matryoshka_prefix_moves_its_own_decoder_rows_alone()
    {
        var sae = new TopKAutoencoder(Normal(F, D), Normal(F), Normal(F, D), Normal(D), 4);
        var objective = new KSparseObjective
        {
            K = 4,
            OverBatch = true,
            GroupSizes = [2, 4, 6],
        };
        SaeLosses Losses() => objective.Of(sae, xBD, LossContext.Plain);

        foreach (int prefix in new[] { 2, 6, 12 })
        {
            var gradients = Moves(sae.Parameters, () => Term(Losses(), $"mse_{prefix}"), All);
            MovedRows(gradients["W_dec"]).Should().OnlyContain(row => row < prefix);
            MovedRows(gradients["W_enc"]).Should().OnlyContain(row => row < prefix);
        }
        Moves(sae.Parameters, () => Losses().Total, All);
    }

    [Fact]
    public void AuxK_moves_the_rows_of_dead_latents_alone()
    {
        var sae = new TopKAutoencoder(Normal(F, D), Normal(F), Normal(F, D), Normal(D), 3);
        long[] dead = [1, 4, 7, 8];
        var deadF = zeros(F, @bool).index_fill_(0, tensor(dead), true);
        var objective = new KSparseObjective
        {
            K = 3,
            AuxCoefficient = 1.0 / 32,
            AuxK = 2,
        };
        var context = LossContext.Plain with { DeadF = _ => deadF };
        var residualBD = (xBD - objective.Of(sae, xBD, context).ReconstructionBD).detach();

        var gradients = Moves(
            sae.Parameters,
            () => Term(objective.Of(sae, xBD, context), "aux_loss"),
            All, // b_dec through x - b_dec
            () =>
                KSparseObjective.NormalizedError(
                    sae.PreActivations(xBD, tensor(dead)).relu(),
                    2,
                    sae.W_dec.index_select(0, tensor(dead)),
                    residualBD
                )
        );

        foreach (string name in new[] { "W_enc", "b_enc", "W_dec" })
        {
            MovedRows(gradients[name]).Should().BeSubsetOf(dead).And.NotBeEmpty();
        }
    }

    [Fact]
    public void JumpRelu_moves_thresholds_by_the_stated_estimators()
    {
        const double bandwidth = 0.8;
        var sae = new JumpReluAutoencoder(Normal(F, D), Normal(F), Normal(F).abs() * 0.3, Normal(F, D), Normal(D));
        var objective = new JumpReluObjective
        {
            Sparsity = JumpReluSparsity.L0,
            Coefficient = 0.1,
            Bandwidth = bandwidth,
        };
        SaeLosses Losses() => objective.Of(sae, sae.Threshold, xBD, LossContext.Plain);
        var zBF = nn.functional.linear(xBD - sae.b_dec, sae.W_enc, sae.b_enc);
        var windowBF = LossTerms.Rectangle((zBF - sae.Threshold) / bandwidth);
        windowBF.sum().item<double>().Should().BePositive();
        var fBF = zBF * (zBF > sae.Threshold);
        // dL/df of the mean squared error; the hard mask's gradient to z is checked by finite differences.
        var toLatentsBF = 2.0 / B * (fBF.matmul(sae.W_dec) + sae.b_dec - xBD).matmul(sae.W_dec.t());

        Close(
            Moves(sae.Parameters, () => Losses().Reconstruction, [.. All, "threshold"], except: "threshold")[
                "threshold"
            ],
            (toLatentsBF * -(sae.Threshold / bandwidth) * windowBF).sum(dim: 0)
        );
        Close(
            Moves(sae.Parameters, () => Term(Losses(), "l0_loss"), ["threshold"], except: "threshold")["threshold"],
            (-windowBF / bandwidth).sum(dim: 0) / B
        );
    }

    [Fact]
    public void Tanh_mode_moves_latents_smoothly_and_brings_silent_ones_back()
    {
        var sae = new JumpReluAutoencoder(Normal(F, D), Normal(F), Normal(F).abs(), Normal(F, D), Normal(D));
        var objective = new JumpReluObjective
        {
            Sparsity = JumpReluSparsity.Tanh,
            Coefficient = 0.1,
            Bandwidth = 2,
            PreActCoefficient = 3e-6,
        };
        SaeLosses Losses() => objective.Of(sae, sae.Threshold, xBD, LossContext.Plain);

        Moves(sae.Parameters, () => Term(Losses(), "l0_loss"), [.. All, "threshold"], except: "threshold");
        Moves(sae.Parameters, () => Term(Losses(), "pre_act_loss"), [.. All, "threshold"]);
    }

    /// <summary>
    /// The gradients of a term: not 0 for the parameters named, exactly 0 or none for all others; equal to the central
    /// differences of the function given, by default the term, along a few directions.
    /// </summary>
    private Dictionary<string, Tensor> Moves(
        IReadOnlyList<(string Name, Tensor Value)> parameters,
        Func<Tensor> term,
        string[] moved,
        Func<Tensor>? smooth = null,
        string? except = null
    )
    {
        foreach (var (_, value) in parameters)
        {
            value.requires_grad_(true);
            value.grad?.zero_();
        }
        term().backward();
        var gradients = parameters.ToDictionary(p => p.Name, p => (p.Value.grad ?? zeros_like(p.Value)).clone());
        parameters
            .Select(p => p.Name)
            .Where(name => gradients[name].count_nonzero().item<long>() > 0)
            .Should()
            .BeEquivalentTo(moved);
        using var none = no_grad();
        foreach (var (name, value) in parameters.Where(p => moved.Contains(p.Name) && p.Name != except))
        {
            foreach (double _ in Directions)
            {
                var direction = Normal(value.shape);
                double expected = Slope(value, direction, smooth ?? term);
                double actual = (gradients[name] * direction).sum().item<double>();
                actual.Should().BeApproximately(expected, 1e-6 * Math.Max(1, Math.Abs(expected)), name);
            }
        }
        return gradients;
    }

    private static double Slope(Tensor value, Tensor direction, Func<Tensor> of)
    {
        const double h = 1e-6;
        value.add_(direction, h);
        double above = of().item<double>();
        value.add_(direction, -2 * h);
        double below = of().item<double>();
        value.add_(direction, h);
        return (above - below) / (2 * h);
    }

    private static void Close(Tensor actual, Tensor expected) =>
        (actual - expected).abs().max().item<double>().Should().BeLessThan(1e-12);

    private static long[] MovedRows(Tensor gradient) =>
        [.. (gradient.reshape(gradient.shape[0], -1) != 0).any(1).nonzero().data<long>()];

    private static Tensor Term(SaeLosses losses, string name) => losses.Terms.Single(term => term.Name == name).Value;

    private Tensor Normal(params long[] shape) => randn(shape, float64, generator: generator);
}
