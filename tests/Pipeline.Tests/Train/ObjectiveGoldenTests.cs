using Pipeline.Shared.Autoencoders;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>
/// Losses term by term, latents, reconstructions and gradients as dictionary_learning, SAELens and OpenAI's code compute them:
/// 1e-5 relative in float32, 1e-9 in float64 where the peer itself computes in float64 throughout.
/// </summary>
public class ObjectiveGoldenTests
{
    public static TheoryData<string, string, double> Files =>
        [
            .. Both("dl_standard_towards_monosemanticity"),
            .. Both("dl_standard_sparsity_warmup"),
            .. Both("dl_standard_april_2024"),
            .. Both("dl_gated"),
            .. Both("dl_jumprelu", 2e-7), // its float64 threshold gradient is good to float32
            .. Both("dl_topk"),
            .. Both("dl_topk_auxk", 2e-6),
            .. Both("dl_batchtopk"),
            .. Both("dl_batchtopk_auxk", 2e-6),
            .. Both("dl_matryoshka_batchtopk"),
            .. Both("dl_matryoshka_batchtopk_auxk", 2e-6),
            .. Both("saelens_standard"),
            .. Both("saelens_jumprelu_step"),
            .. Both("saelens_jumprelu_tanh"),
            .. Both("saelens_topk"),
            .. Both("saelens_topk_auxk"),
            .. Both("saelens_topk_norescale"),
            .. Both("saelens_batchtopk"),
            .. Both("saelens_batchtopk_auxk"),
            .. Both("saelens_matryoshka"),
            .. Both("saelens_matryoshka_auxk"),
            ("openai_topk", "f32", 1e-5),
            ("openai_topk_auxk", "f32", 1e-5),
        ];

    [Theory]
    [MemberData(nameof(Files))]
    public void A_loss_its_terms_and_its_gradients_are_the_peers(string file, string precision, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var golden = new GoldenStep(file, precision);
        var peer = PeerStep.Of(file, golden);
        var expected = golden.Expected;

        var losses = peer.Objective(golden.X);
        losses.Total.backward();

        GoldenStep.Compare("loss", losses.Total, expected.GetProperty("loss"), tolerance);
        foreach (var (name, value) in peer.Terms(losses))
        {
            GoldenStep.Compare(name, value, expected.GetProperty("losses").GetProperty(name), tolerance);
        }
        foreach (var (name, value) in new[] { ("f", losses.LatentsBF), ("feature_acts", losses.LatentsBF) })
        {
            if (expected.TryGetProperty(name, out var latents))
            {
                GoldenStep.Compare(name, value, latents, tolerance);
            }
        }
        foreach (string name in new[] { "x_hat", "sae_out", "recons" })
        {
            if (expected.TryGetProperty(name, out var reconstruction))
            {
                GoldenStep.Compare(name, losses.ReconstructionBD, reconstruction, tolerance);
            }
        }
        var gradients = expected.GetProperty("grads_raw");
        peer.Parameters.Keys.Should().BeEquivalentTo(gradients.EnumerateObject().Select(p => p.Name));
        foreach (var (name, (value, transposed)) in peer.Parameters)
        {
            var gradient = value.grad!;
            GoldenStep.Compare(
                $"gradient of {name}",
                transposed ? gradient.t() : gradient,
                gradients.GetProperty(name),
                tolerance
            );
        }
    }

    public static TheoryData<string, string, double> Updated =>
        [
            .. Both("dl_standard_towards_monosemanticity"),
            .. Both("dl_standard_sparsity_warmup"),
            .. Both("dl_standard_april_2024"),
            .. Both("dl_gated"),
            .. Both("dl_jumprelu", 2e-7),
            .. Both("dl_topk"),
            .. Both("dl_topk_auxk", 2e-6),
            .. Both("dl_batchtopk"),
            .. Both("dl_batchtopk_auxk", 2e-6),
            .. Both("dl_matryoshka_batchtopk"),
            .. Both("dl_matryoshka_batchtopk_auxk", 2e-6),
        ];

    [Theory]
    [MemberData(nameof(Updated))]
    public void Weights_after_one_and_three_steps_are_dictionary_learnings(
        string file,
        string precision,
        double tolerance
    )
    {
        using var scope = NewDisposeScope();
        using var golden = new GoldenStep(file, precision);
        var peer = PeerStep.Of(file, golden);
        bool constrainedAdam =
            file is "dl_gated"
            || file.StartsWith("dl_standard_t", StringComparison.Ordinal)
            || file.StartsWith("dl_standard_s", StringComparison.Ordinal);
        var recipe = new SaeRecipe
        {
            DeadAfter = long.MaxValue,
            GradientClip = constrainedAdam ? 0 : 1,
            Beta1 = file is "dl_gated" or "dl_jumprelu" ? 0 : 0.9,
            UnitDecoder = file != "dl_standard_april_2024",
            ProjectionEpsilon = constrainedAdam ? 0 : 1e-6,
        };
        using var trainer = new SaeTrainer(recipe, new AutogradLearner(peer.Sae, (x, _) => peer.Objective(x)));

        for (int step = 1; step <= 3; step++)
        {
            trainer.TrainOneStep(golden.X, golden.Number("lr"));
            if (golden.Expected.GetProperty("params_after_update").TryGetProperty($"{step}", out var after))
            {
                foreach (var (name, (value, transposed)) in peer.Parameters)
                {
                    GoldenStep.Compare(
                        $"{name} after {step}",
                        transposed ? value.t() : value,
                        after.GetProperty(name),
                        tolerance
                    );
                }
            }
        }
    }

    [Theory]
    [InlineData("dl_batchtopk", "f32", 1e-5, false)]
    [InlineData("dl_batchtopk", "f32", 1e-5, true)]
    [InlineData("dl_batchtopk", "f64", 1e-7, false)] // the peer keeps the threshold in float32
    public void BatchTopKs_threshold_is_dictionary_learnings(
        string file,
        string precision,
        double tolerance,
        bool hasKernel
    )
    {
        using var scope = NewDisposeScope();
        using var golden = new GoldenStep(file, precision);
        var peer = PeerStep.Of(file, golden);
        var sae = (TopKAutoencoder)peer.Sae;
        var learner = new KSparseLearner(
            sae,
            new KSparseObjective { K = sae.K, OverBatch = true },
            new ThresholdAverage(0, 0.999),
            hasKernel,
            projectionEpsilon: null
        );
        var recipe = new SaeRecipe { DeadAfter = long.MaxValue, GradientClip = 1 };
        using var trainer = new SaeTrainer(recipe, learner);

        trainer.TrainOneStep(golden.X, golden.Number("lr"));
        GoldenStep.Compare(
            "first",
            tensor(learner.Threshold),
            golden.Expected.GetProperty("threshold_after_loss"),
            tolerance
        );
        trainer.TrainOneStep(golden.X, golden.Number("lr"));
        trainer.TrainOneStep(golden.X, golden.Number("lr"));
        GoldenStep.Compare(
            "third",
            tensor(learner.Threshold),
            golden.Expected.GetProperty("threshold_after_3_updates"),
            tolerance
        );
    }

    /// <summary>
    /// SAELens lets its auxiliary term train the decoder and b_dec. Ours does not: everything else is the same, and what its
    /// decoder's gradient has beyond ours is that term's.
    /// </summary>
    [Theory]
    [InlineData("f32", 1e-5)]
    [InlineData("f64", 1e-9)]
    public void SAELens_gated_differs_by_the_auxiliary_terms_gradient_to_the_decoder(string precision, double tolerance)
    {
        using var scope = NewDisposeScope();
        using var golden = new GoldenStep("saelens_gated", precision);
        double sparsity = golden.Root.GetProperty("coefficients").GetProperty("l1").GetDouble();
        var sae = PeerStep.SaeLensGated(golden);
        var losses = new GatedObjective(sparsity, WeighsByDecoderNorm: true).Of(sae, golden.X, LossContext.Plain);
        losses.Total.backward();

        var expected = golden.Expected;
        GoldenStep.Compare("loss", losses.Total, expected.GetProperty("loss"), tolerance);
        var gradients = expected.GetProperty("grads_raw");
        foreach (var (name, value) in new[] { ("b_gate", sae.b_gate), ("b_mag", sae.b_mag), ("r_mag", sae.r_mag) })
        {
            GoldenStep.Compare(name, value.grad!, gradients.GetProperty(name), tolerance);
        }
        GoldenStep.Compare("W_enc", sae.W_enc.grad!.t(), gradients.GetProperty("W_enc"), tolerance);

        // The auxiliary term alone, its decoder attached as in SAELens.
        var ours = sae.W_dec.grad!.clone();
        var ourBias = sae.b_dec.grad!.clone();
        sae.W_dec.grad!.zero_();
        sae.b_dec.grad!.zero_();
        var centeredBD = sae.SubtractsDecoderBias ? golden.X - sae.b_dec.detach() : golden.X;
        var openBF = nn.functional.relu(nn.functional.linear(centeredBD, sae.W_enc.detach()) + sae.b_gate.detach());
        LossTerms.SquaredError(golden.X, openBF.matmul(sae.W_dec) + sae.b_dec).backward();
        GoldenStep.Compare("W_dec", ours + sae.W_dec.grad!, gradients.GetProperty("W_dec"), tolerance);
        GoldenStep.Compare("b_dec", ourBias + sae.b_dec.grad!, gradients.GetProperty("b_dec"), tolerance);
        sae.W_dec.grad!.abs().max().to(float64).item<double>().Should().BeGreaterThan(0.1, "the difference is real");
    }

    private static (string, string, double)[] Both(string file, double float64Tolerance = 1e-9) =>
        [(file, "f32", 1e-5), (file, "f64", float64Tolerance)];
}
