using Pipeline.Shared.Autoencoders;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

public sealed class PAnnealTests
{
    [Fact]
    public void The_penalty_is_as_large_after_a_change_of_p_as_before()
    {
        using var scope = NewDisposeScope();
        using var generator = new Generator(3, CPU);
        Tensor Normal(params long[] shape) => randn(shape, generator: generator).DetachFromDisposeScope();
        var sae = new StandardAutoencoder(Normal(16, 4), Normal(16), Normal(16, 4), Normal(4));
        var levels = new PAnnealLevels(0, 200, 0.2); // a level every 20 steps
        using var learner = new PAnnealLearner(sae, l1: 0.5, levels);
        using var trainer = new SaeTrainer(new SaeRecipe { DeadAfter = 1000, GradientClip = 1 }, learner);
        var xBD = Normal(64, 4);

        for (int step = 0; step < 200; step++)
        {
            double before = Weight(learner);
            // At a learning rate of 0 nothing but p changes.
            var metrics = trainer.TrainOneStep(xBD, learningRate: 0);
            (levels.P(levels.Level(step)) < 1).Should().Be(step >= 20);
            double penalty = 0.5 * Weight(learner) * metrics.Terms.Single().Value;
            penalty.Should().BeApproximately(InitialPenalty(sae, xBD), 1e-3 * penalty);
            (Weight(learner) != before).Should().Be(step > 0 && step % 20 == 0);
        }

        trainer.TrainOneStep(xBD, 0).Terms.Single().Name.Should().Be("lp");
    }

    private static double Weight(PAnnealLearner learner) =>
        learner.Running.Single(value => value.Name == "anneal_scale").Value.item<double>();

    private static double InitialPenalty(StandardAutoencoder sae, Tensor xBD)
    {
        using var none = no_grad();
        return 0.5 * new StandardObjective(1, false).Of(sae, xBD, LossContext.Plain).Terms[0].Value.item<float>();
    }
}
