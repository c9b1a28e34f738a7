using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Configuration;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>The hand-written CPU path against its plain twin.</summary>
public class KSparseCpuGradientsTests
{
    public static TheoryData<int, int, int, int, Form> Shapes =>
        [
            .. from form in Enum.GetValues<Form>()
            from shape in new[]
            {
                (1, 3, 5, 1),
                (7, 17, 33, 4),
                (64, 16, 128, 8),
                (300, 24, 40, 40), // k = F, more rows than a chunk
                (257, 31, 257, 1),
            }
            select (shape.Item1, shape.Item2, shape.Item3, shape.Item4, form),
        ];

    public enum Form
    {
        TopK,
        BatchTopK,
        Matryoshka,
        WeightedMatryoshka,
    }

    [Theory]
    [MemberData(nameof(Shapes))]
    public void Gradients_and_loss_are_those_of_autograd(int batch, int width, int features, int k, Form form)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(width, features, k, random);
        var xBD = randn(batch, width, generator: random);
        var objective = Objective(form, k, features);
        var losses = objective.Of(sae, xBD, LossContext.Plain);
        losses.Total.backward();
        Tensor[] parameters = [sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec];
        Tensor[] expected = [.. parameters.Select(p => p.grad!.clone())];
        foreach (var parameter in parameters)
        {
            parameter.grad!.zero_();
        }
        using var kernel = new KSparseCpuGradients(sae, objective, batch, null);

        kernel.Compute(xBD);

        kernel.Loss.Should().BeApproximately(losses.Total.item<float>(), 1e-5 * losses.Total.item<float>());
        float reconstruction = losses.Reconstruction.item<float>();
        kernel.Reconstruction.Should().BeApproximately(reconstruction, 1e-5 * reconstruction);
        foreach (var (actual, expectedTerm) in kernel.Terms.Zip(losses.Terms))
        {
            actual.Name.Should().Be(expectedTerm.Name);
            actual.Value.Should().BeApproximately(expectedTerm.Value.item<float>(), 1e-5 * actual.Value);
        }
        kernel.SmallestKept.Should().BeApproximately(KSparseObjective.SmallestKept(losses.LatentsBF), 1e-5);
        kernel.Kept.Should().Be((losses.LatentsBF > 0).sum().item<long>());
        foreach (var (parameter, gradient) in parameters.Zip(expected))
        {
            double scale = Math.Max(1e-6, gradient.abs().max().item<float>());
            ((parameter.grad! - gradient).abs().max().item<float>() / scale).Should().BeLessThan(1e-5);
        }
        (kernel.ResidualBD() - (xBD - losses.ReconstructionBD).detach())
            .abs()
            .max()
            .item<float>()
            .Should()
            .BeLessThan(1e-4f);
    }

    /// <summary>
    /// The first rows say nothing of the rest: a floor guessed from them is far too high, or 0, and the same k·B are found.
    /// </summary>
    [Theory]
    [InlineData(100f, 1f)]
    [InlineData(0f, 1f)]
    [InlineData(-1f, -1f)] // of the whole batch, less than k·B are positive
    public void Rows_unlike_the_first_are_selected_alike(float first, float rest)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(8, CPU);
        using var sae = NewSae(16, 64, 20, random);
        var xBD = randn(300, 16, generator: random);
        if (first < 0)
        {
            sae.b_enc.requires_grad_(false).sub_(8);
        }
        xBD.narrow(0, 0, 32).mul_(Math.Abs(first));
        xBD.narrow(0, 32, 268).mul_(Math.Abs(rest));
        var objective = Objective(Form.BatchTopK, 20, 64);
        var losses = objective.Of(sae, xBD, LossContext.Plain);
        using var kernel = new KSparseCpuGradients(sae, objective, 300, null);

        kernel.Compute(xBD);

        kernel.Kept.Should().Be((losses.LatentsBF > 0).sum().item<long>());
        kernel.Loss.Should().BeApproximately(losses.Total.item<float>(), 1e-5 * losses.Total.item<float>());
    }

    [Theory]
    [InlineData(Architecture.TopK)]
    [InlineData(Architecture.BatchTopK)]
    [InlineData(Architecture.MatryoshkaBatchTopK)]
    public void Steps_of_both_paths_agree_with_dead_latents_among_them(Architecture architecture)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(9, CPU);
        Tensor[] batches = [.. Enumerable.Range(0, 12).Select(_ => randn(64, 20, generator: random))];
        var config = new SaeConfig
        {
            Architecture = architecture,
            Features = 96,
            K = 6,
            AuxK = 12,
        };
        var recipe = new SaeRecipe { DeadAfter = 100, GradientClip = 1 };
        var objective = new KSparseObjective
        {
            K = 6,
            OverBatch = architecture != Architecture.TopK,
            GroupSizes = architecture == Architecture.MatryoshkaBatchTopK ? config.GroupSizesFor(20) : null,
            AuxK = 12,
            AuxCoefficient = 1.0 / 32,
        };
        var learner = SaeLearners.New(config, new TrainingBatch(batches[0]), 3, 12);
        var twin = (TopKAutoencoder)SaeLearners.New(config, new TrainingBatch(batches[0]), 3, 12).Sae;
        using var plain = new SaeTrainer(
            recipe,
            new AutogradLearner(twin, (x, context) => objective.Of(twin, x, context))
        );
        using var fast = new SaeTrainer(recipe, learner);

        long dead = 0;
        foreach (var batch in batches)
        {
            var expected = plain.TrainOneStep(batch, 1e-3);
            var actual = fast.TrainOneStep(batch, 1e-3);
            actual.Loss.Should().BeApproximately(expected.Loss, 1e-4 * expected.Loss);
            actual.Dead.Should().Be(expected.Dead);
            dead = Math.Max(dead, expected.Dead);
        }

        dead.Should().BePositive();
        (fast.Sae.W_dec - plain.Sae.W_dec).abs().max().item<float>().Should().BeLessThan(1e-4f);
        (fast.Sae.W_enc - plain.Sae.W_enc).abs().max().item<float>().Should().BeLessThan(1e-4f);
    }

    /// <summary>
    /// Every step's loss, AuxK included. Two latents may be so close to equal at the boundary of a selection that rounding decides
    /// between them, and from there both trainings go their own ways; with few rows a step that is rare, and these starts have none.
    /// </summary>
    [Theory]
    [InlineData(Architecture.TopK, 1)]
    [InlineData(Architecture.TopK, 2)]
    [InlineData(Architecture.BatchTopK, 1)]
    [InlineData(Architecture.BatchTopK, 2)]
    [InlineData(Architecture.MatryoshkaBatchTopK, 1)]
    [InlineData(Architecture.MatryoshkaBatchTopK, 2)]
    public void Losses_of_200_steps_are_those_of_the_dense_twin(Architecture architecture, int seed)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator((ulong)seed, CPU);
        var directionsGD = randn(40, 24, generator: random);
        Tensor[] batches =
        [
            .. Enumerable
                .Range(0, 200)
                .Select(_ =>
                    nn.functional.relu(randn(16, 40, generator: random) - 1.5).matmul(directionsGD)
                    + (0.05 * randn(16, 24, generator: random))
                ),
        ];
        var config = new SaeConfig
        {
            Architecture = architecture,
            Features = 96,
            K = 4,
            AuxK = 12,
        };
        var recipe = SaeLearners.Recipe(config) with { DeadAfter = 160 };
        var start = new TrainingBatch(batches[0]);
        using var kernel = new SaeTrainer(recipe, SaeLearners.New(config, start, 3, 200));
        var dense = SaeLearners.New(config, start, 3, 200, isPlain: true);
        using var twin = new SaeTrainer(recipe, dense, new PlainSaeOptimizer(dense, recipe));

        var differences = new List<double>();
        var losses = new List<double>();
        long mostDead = 0;
        foreach (var batch in batches)
        {
            var expected = twin.TrainOneStep(batch, 3e-4);
            var actual = kernel.TrainOneStep(batch, 3e-4);
            differences.Add(Math.Abs(actual.Loss - expected.Loss) / expected.Loss);
            losses.Add(expected.Loss);
            mostDead = Math.Max(mostDead, expected.Dead);
        }

        differences.Max().Should().BeLessThanOrEqualTo(1e-5);
        losses.TakeLast(10).Average().Should().BeLessThan(0.9 * losses.Take(10).Average(), "it is trained");
        mostDead.Should().BePositive("AuxK has part in it");
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void A_row_that_is_not_finite_is_refused_by_number(float value)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(1, CPU);
        using var sae = NewSae(4, 8, 2, random);
        var xBD = zeros(3, 4);
        xBD[1, 2] = value;
        using var kernel = new KSparseCpuGradients(sae, new KSparseObjective { K = 2 }, 3, null);

        ((Action)(() => kernel.Compute(xBD)))
            .Should()
            .Throw<StageFailedException>()
            .Which.Message.Should()
            .Contain("row 1");
    }

    [Fact]
    public void Weights_that_are_not_finite_are_refused_by_latent()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var random = new Generator(1, CPU);
        using var sae = NewSae(4, 8, 2, random);
        sae.W_enc[5, 1] = float.PositiveInfinity;
        using var kernel = new KSparseCpuGradients(sae, new KSparseObjective { K = 2 }, 3, null);

        ((Action)(() => kernel.Compute(zeros(3, 4))))
            .Should()
            .Throw<StageFailedException>()
            .Which.Message.Should()
            .Contain("latent 5");
    }

    private static KSparseObjective Objective(Form form, int k, int features) =>
        new()
        {
            K = k,
            OverBatch = form != Form.TopK,
            GroupSizes = form is Form.TopK or Form.BatchTopK ? null : [1, 2, features - 3],
            GroupWeights = form == Form.WeightedMatryoshka ? [0.5, 0.2, 0.3] : null,
        };

    private static TopKAutoencoder NewSae(int width, int features, int k, Generator random) =>
        new(
            randn(features, width, generator: random).requires_grad_(true),
            randn(features, generator: random).mul_(0.1).requires_grad_(true),
            randn(features, width, generator: random).requires_grad_(true),
            randn(width, generator: random).requires_grad_(true),
            k
        );
}
