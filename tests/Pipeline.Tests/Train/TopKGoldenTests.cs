using System.Text.Json;
using Pipeline.Shared.Autoencoders;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>TopK's hand-written path, schedules and initial values beside dictionary_learning's own.</summary>
public class TopKGoldenTests
{
    [Theory]
    [InlineData("dl_topk", false)]
    [InlineData("dl_topk_auxk", true)]
    public void The_hand_written_path_updates_as_dictionary_learning_does(string file, bool hasAux)
    {
        const double Tolerance = 1e-5;
        using var scope = NewDisposeScope();
        using var golden = new GoldenStep(file, "f32");
        var peer = PeerStep.Of(file, golden);
        var sae = (TopKAutoencoder)peer.Sae;
        var learner = new KSparseLearner(
            sae,
            new KSparseObjective
            {
                K = sae.K,
                AuxCoefficient = golden.Number("auxk_alpha"),
                AuxK = (int)golden.Number("top_k_aux"),
            },
            average: null,
            hasKernel: true,
            new SaeRecipe { DeadAfter = 1, GradientClip = 1 }.ProjectionEpsilon
        );
        var recipe = new SaeRecipe { DeadAfter = 1_000_000, GradientClip = golden.Number("grad_clip") };
        using var trainer = new SaeTrainer(recipe, learner);
        if (hasAux)
        {
            var since = trainer.State().Single(s => s.Name == "tokens_since_fired").Value;
            since.masked_fill_(golden.DeadF(sae.Features), 2_000_000);
        }

        for (int step = 1; step <= 3; step++)
        {
            var metrics = trainer.TrainOneStep(golden.X, golden.Number("lr"));
            if (step == 1)
            {
                double expected = golden.Expected.GetProperty("loss").GetDouble();
                metrics.Loss.Should().BeApproximately(expected, Tolerance * expected);
            }
            if (golden.Expected.GetProperty("params_after_update").TryGetProperty($"{step}", out var after))
            {
                foreach (var (name, (value, transposed)) in peer.Parameters)
                {
                    GoldenStep.Compare(name, transposed ? value.t() : value, after.GetProperty(name), Tolerance);
                }
            }
        }
    }

    [Fact]
    public void Geometric_median_matches_dictionary_learning()
    {
        using var scope = NewDisposeScope();
        using var json = JsonDocument.Parse(
            File.ReadAllBytes(TestData.Require("golden", "training", "dl_schedules_and_median.json"))
        );
        var x = json.RootElement.GetProperty("inputs").GetProperty("x");
        foreach (var (precision, type, tolerance) in new[] { ("f32", float32, 1e-5), ("f64", float64, 1e-9) })
        {
            var expected = json.RootElement.GetProperty(precision).GetProperty("geometric_median");
            GoldenStep.Compare("median", GeometricMedian.Of(GoldenStep.Read(x, type)), expected, tolerance);
        }
    }

    [Fact]
    public void Learning_rate_schedule_matches_dictionary_learning()
    {
        using var json = JsonDocument.Parse(
            File.ReadAllBytes(TestData.Require("golden", "training", "dl_schedules_and_median.json"))
        );
        var schedules = json.RootElement.GetProperty("schedules");
        long[] steps = [.. schedules.GetProperty("steps").EnumerateArray().Select(e => e.GetInt64())];
        double[] expected =
        [
            .. schedules.GetProperty("lr_warmup1000_decay24000_total30000").EnumerateArray().Select(e => e.GetDouble()),
        ];

        for (int i = 0; i < steps.Length; i++)
        {
            LearningRateSchedule
                .WarmupThenDecay(steps[i], 30_000, 1_000, 6_000)
                .Should()
                .BeApproximately(expected[i], 1e-12);
        }
    }

    /// <summary>For l = Σ y_k² over the kept entries, only the kept rows of W have a gradient: 2 y_k x.</summary>
    [Fact]
    public void The_worked_gradient_example_reproduces()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(42, CPU);
        var x1 = rand(6, generator: random);
        var W1 = rand(6, 6, generator: random).requires_grad_(true);
        var y1 = W1.matmul(x1);
        var (kept, indices) = y1.topk(3);
        kept.square().sum().backward();

        Rounded(y1).Should().Equal(2.1621, 2.6728, 1.9516, 0.8855, 2.4250, 2.3444);
        indices.data<long>().Order().Should().Equal(1, 4, 5);
        Rounded(W1.grad![1]).Should().Equal(4.7162, 4.8912, 2.0466, 5.1280, 2.0871, 3.2121);
        Rounded(W1.grad![4]).Should().Equal(4.2791, 4.4378, 1.8569, 4.6527, 1.8937, 2.9144);
        Rounded(W1.grad![5]).Should().Equal(4.1368, 4.2903, 1.7952, 4.4980, 1.8308, 2.8175);
        foreach (int row in new[] { 0, 2, 3 })
        {
            W1.grad![row].abs().sum().item<float>().Should().Be(0);
        }
    }

    private static double[] Rounded(Tensor values) =>
        [.. values.detach().data<float>().Select(value => Math.Round((double)value, 4))];
}
