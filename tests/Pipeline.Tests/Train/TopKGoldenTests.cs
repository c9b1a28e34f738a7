using System.Text.Json;
using Pipeline.Shared.Autoencoders;
using Pipeline.Train;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>
/// One and three steps as dictionary_learning's own TopK trainer computes them: 1e-5 relative in float32, 1e-9 in float64
/// (float32-exact there with AuxK, where the peer casts).
/// </summary>
public class TopKGoldenTests
{
    [Theory]
    [InlineData("dl_topk", "f32", 1e-5, false)]
    [InlineData("dl_topk", "f32", 1e-5, true)]
    [InlineData("dl_topk", "f64", 1e-9, false)]
    [InlineData("dl_topk_auxk", "f32", 1e-5, false)]
    [InlineData("dl_topk_auxk", "f32", 1e-5, true)]
    [InlineData("dl_topk_auxk", "f64", 2e-6, false)]
    public void Losses_gradients_and_updates_match_dictionary_learning(
        string file,
        string precision,
        double tolerance,
        bool kernel
    )
    {
        using var scope = NewDisposeScope();
        using var json = JsonDocument.Parse(File.ReadAllBytes(TestData.Require("golden", "training", file + ".json")));
        var root = json.RootElement;
        var expected = root.GetProperty(precision);
        var type = precision == "f32" ? ScalarType.Float32 : ScalarType.Float64;
        var hyper = root.GetProperty("hyper");
        var inputs = root.GetProperty("inputs");
        bool hasAux = file.EndsWith("auxk", StringComparison.Ordinal);
        var xBD = Load(inputs.GetProperty("x"), type);
        var sae = LoadSae(inputs.GetProperty("params"), hyper.GetProperty("k").GetInt32(), type);
        var recipe = new TopKRecipe
        {
            Features = sae.Features,
            K = sae.K,
            AuxK = hasAux ? hyper.GetProperty("top_k_aux").GetInt32() : 1,
            AuxCoefficient = hasAux ? hyper.GetProperty("auxk_alpha").GetDouble() : 0,
            DeadAfter = 1_000_000,
            GradientClip = hyper.GetProperty("grad_clip").GetDouble(),
            Seed = 0,
        };
        using var trainer = new TopKTrainer(recipe, sae) { UsesKernel = kernel };
        if (hasAux)
        {
            long[] dead = [.. root.GetProperty("dead_latents").EnumerateArray().Select(e => e.GetInt64())];
            trainer.State().Single(s => s.Name == "tokens_since_fired").Value.index_fill_(0, tensor(dead), 2_000_000);
        }

        // Terms and raw gradients of the first step.
        var since = trainer.State().Single(s => s.Name == "tokens_since_fired").Value;
        var losses = TopKLoss.Of(
            sae,
            xBD,
            recipe.AuxCoefficient,
            recipe.AuxK,
            fired => (since >= recipe.DeadAfter).logical_and(fired.logical_not())
        );
        losses.Total.backward();
        Compare(losses.Total, expected.GetProperty("loss"), tolerance);
        var terms = expected.GetProperty("losses");
        Compare(losses.Reconstruction, terms.GetProperty("l2_loss"), tolerance);
        if (hasAux)
        {
            Compare(losses.Aux, terms.GetProperty("auxk_loss"), tolerance);
        }
        Compare(losses.DenseBF, expected.GetProperty("f"), tolerance);
        Compare(losses.ReconstructionBD, expected.GetProperty("x_hat"), tolerance);
        CompareAll(sae, parameter => parameter.grad!, expected.GetProperty("grads_raw"), tolerance);
        foreach (var parameter in new[] { sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec })
        {
            parameter.grad!.zero_();
        }

        double learningRate = hyper.GetProperty("lr").GetDouble();
        for (int step = 1; step <= 3; step++)
        {
            trainer.TrainOneStep(xBD, learningRate);
            if (expected.GetProperty("params_after_update").TryGetProperty($"{step}", out var after))
            {
                CompareAll(sae, parameter => parameter, after, tolerance);
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
            Compare(GeometricMedian.Of(Load(x, type)), expected, tolerance);
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
        manual_seed(42);
        var x1 = rand(6);
        var W1 = rand(6, 6).requires_grad_(true);
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

    private static TopKAutoencoder LoadSae(JsonElement parameters, int k, ScalarType type) =>
        new(
            Load(parameters.GetProperty("encoder_weight"), type),
            Load(parameters.GetProperty("encoder_bias"), type),
            Load(parameters.GetProperty("decoder_weight"), type).t().contiguous(),
            Load(parameters.GetProperty("b_dec"), type),
            k
        );

    private static void CompareAll(TopKAutoencoder sae, Func<Tensor, Tensor> of, JsonElement expected, double tolerance)
    {
        Compare(of(sae.W_enc), expected.GetProperty("encoder.weight"), tolerance);
        Compare(of(sae.b_enc), expected.GetProperty("encoder.bias"), tolerance);
        Compare(of(sae.W_dec).t(), expected.GetProperty("decoder.weight"), tolerance);
        Compare(of(sae.b_dec), expected.GetProperty("b_dec"), tolerance);
    }

    /// <summary>Largest difference, relative to the largest expected value.</summary>
    private static void Compare(Tensor actual, JsonElement expected, double tolerance)
    {
        var wanted = Load(expected, ScalarType.Float64);
        actual.shape.Should().Equal(wanted.shape);
        double scale = Math.Max(wanted.abs().max().item<double>(), 1e-12);
        ((actual.detach().to(float64) - wanted).abs().max().item<double>() / scale).Should().BeLessThan(tolerance);
    }

    private static Tensor Load(JsonElement json, ScalarType type)
    {
        if (json.ValueKind == JsonValueKind.Number)
        {
            return tensor(json.GetDouble(), type);
        }
        return json[0].ValueKind == JsonValueKind.Array
            ? stack([.. json.EnumerateArray().Select(row => Load(row, type))])
            : tensor(json.EnumerateArray().Select(e => e.GetDouble()).ToArray()).to(type);
    }
}
