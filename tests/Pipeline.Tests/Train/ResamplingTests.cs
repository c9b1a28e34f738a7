using Pipeline.Shared.Autoencoders;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

public sealed class ResamplingTests : IDisposable
{
    private const int D = 4;
    private const int F = 6;

    private readonly DisposeScope scope = NewDisposeScope();
    private readonly Generator generator = new(5, CPU);

    public void Dispose()
    {
        scope.Dispose();
        generator.Dispose();
    }

    [Fact]
    public void Inputs_are_drawn_in_proportion_to_the_square_of_their_loss()
    {
        var rowsBD = arange(4).to(float32).unsqueeze(1); // each row is its own number
        var lossB = tensor(new double[] { 0, 1, 2, 3 }); // squares: 0, 1, 4, 9
        var first = new int[4];
        const int Draws = 4000;
        for (int seed = 0; seed < Draws; seed++)
        {
            // In two batches: what is drawn must not depend on where one ends.
            int at = 0;
            var drawnND = NeuronResampling.Draw(
                [rowsBD.narrow(0, 0, 3), rowsBD.narrow(0, 3, 1)],
                x => lossB.narrow(0, at++ == 0 ? 0 : 3, x.shape[0]),
                2,
                (ulong)seed
            );
            drawnND.shape.Should().Equal(2, 1);
            drawnND[0, 0].item<float>().Should().NotBe(drawnND[1, 0].item<float>());
            first[(int)drawnND[0, 0].item<float>()]++;
        }

        first[0].Should().Be(0);
        for (int row = 1; row < 4; row++)
        {
            double share = row * row / 14.0;
            double sigma = Math.Sqrt(share * (1 - share) / Draws);
            (first[row] / (double)Draws).Should().BeApproximately(share, 5 * sigma);
        }
    }

    [Fact]
    public void Fewer_inputs_with_a_loss_than_wanted_are_all_drawn() =>
        NeuronResampling
            .Draw([randn([5, D], generator: generator)], x => tensor(new double[] { 0, 1, 0, 2, 0 }), 4, 1)
            .shape.Should()
            .Equal(2, D);

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Dead_latents_begin_anew_and_nothing_else_changes(bool gated)
    {
        using var trainer = NewTrainer(gated);
        var inputsBD = randn([32, D], generator: generator);
        for (int step = 0; step < 3; step++)
        {
            trainer.TrainOneStep(inputsBD, 1e-3);
        }
        var before = State(trainer);
        long[] dead = [2, 5];

        trainer.Resample(96, [inputsBD], seed: 1);

        trainer.Resampled.Should().Be(2);
        var after = State(trainer);
        foreach (var (name, was) in before.Where(entry => entry.Key is not "resampled" and not "tokens_since_fired"))
        {
            bool isOfAllLatents = name.StartsWith("b_dec", StringComparison.Ordinal) || was.shape[0] != F;
            for (int f = 0; f < was.shape[0]; f++)
            {
                bool isUntouched = isOfAllLatents || !dead.Contains(f) || name == "fire_counts";
                if (isUntouched)
                {
                    Same(after[name][f], was[f]).Should().BeTrue($"{name}[{f}]");
                }
                else if (name is not ("W_enc" or "W_dec"))
                {
                    after[name][f].count_nonzero().item<long>().Should().Be(0, $"{name}[{f}]");
                }
            }
        }
        double living = Living(before["W_enc"], dead);
        foreach (int f in dead)
        {
            var row = after["W_dec"][f];
            row.norm().item<float>().Should().BeApproximately(1, 1e-6f);
            var unitBD = inputsBD / inputsBD.norm(1, keepdim: true);
            (unitBD - row).abs().sum(-1).min().item<float>().Should().BeLessThan(1e-6f, "it is one of the inputs");
            var encoder = after["W_enc"][f];
            (encoder - (row * (0.2 * living))).abs().max().item<float>().Should().BeLessThan(1e-6f);
            after["tokens_since_fired"][f].item<long>().Should().Be(0);
        }
    }

    [Fact]
    public void Nothing_happens_where_all_latents_fired()
    {
        using var trainer = NewTrainer(gated: false);
        trainer.TrainOneStep(randn([32, D], generator: generator), 1e-3);
        var before = State(trainer);

        trainer.Resample(1000, [randn([8, D], generator: generator)], seed: 1);

        var after = State(trainer);
        before.Should().OnlyContain(entry => Same(after[entry.Key], entry.Value));
    }

    private SaeTrainer NewTrainer(bool gated)
    {
        var bias = zeros(F).index_fill_(0, tensor(new long[] { 2, 5 }), -100).DetachFromDisposeScope(); // never fire
        Tensor Weights() => randn([F, D], generator: generator).DetachFromDisposeScope();
        Tensor Zeros(int n) => zeros(n).DetachFromDisposeScope();
        var recipe = new SaeRecipe { DeadAfter = 1000, GradientClip = 1 };
        if (gated)
        {
            var sae = new GatedAutoencoder(Weights(), bias, Zeros(F), Zeros(F), Weights(), Zeros(D));
            return new SaeTrainer(
                recipe,
                new AutogradLearner(sae, (x, context) => new GatedObjective(0.1).Of(sae, x, context))
            );
        }
        var standard = new StandardAutoencoder(Weights(), bias, Weights(), Zeros(D));
        return new SaeTrainer(
            recipe,
            new AutogradLearner(standard, (x, context) => new StandardObjective(0.1, false).Of(standard, x, context))
        );
    }

    private static bool Same(Tensor a, Tensor b) => (a != b).count_nonzero().item<long>() == 0;

    private static double Living(Tensor W_enc, long[] dead) =>
        Enumerable.Range(0, F).Where(f => !dead.Contains(f)).Average(f => W_enc[f].norm().item<float>());

    private static Dictionary<string, Tensor> State(SaeTrainer trainer) =>
        trainer.State().ToDictionary(entry => entry.Name, entry => entry.Value.detach().clone());
}
