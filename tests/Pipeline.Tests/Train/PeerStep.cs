using Pipeline.Shared.Autoencoders;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>A peer's step in our terms: the option that reproduces it, and its names for parameters and terms.</summary>
/// <param name="Sae">The parameters.</param>
/// <param name="Objective">Computes the losses of activations.</param>
/// <param name="Terms">The peer's terms of them.</param>
/// <param name="Parameters">By the peer's names; whether it stores them transposed.</param>
internal sealed record PeerStep(
    Autoencoder Sae,
    Func<Tensor, SaeLosses> Objective,
    Func<SaeLosses, (string Name, Tensor Value)[]> Terms,
    Dictionary<string, (Tensor Value, bool Transposed)> Parameters
)
{
    public static PeerStep Of(string file, GoldenStep golden) =>
        file.Split('_') switch
        {
            ["dl", "standard", ..] => DictionaryLearningStandard(golden, file == "dl_standard_april_2024"),
            ["dl", "gated"] => DictionaryLearningGated(golden),
            ["dl", "jumprelu"] => DictionaryLearningJumpRelu(golden),
            ["dl", "matryoshka", ..] => DictionaryLearningMatryoshka(golden),
            ["dl", var kind, ..] => DictionaryLearningTopK(golden, kind == "batchtopk"),
            ["saelens", "standard"] => SaeLensStandard(golden),
            ["saelens", "jumprelu", ..] => SaeLensJumpRelu(golden),
            ["saelens", ..] => SaeLensTopK(golden, file),
            _ => OpenAi(golden),
        };

    public static GatedAutoencoder SaeLensGated(GoldenStep golden) =>
        new(
            golden.Parameter("W_enc", transposed: true),
            golden.Parameter("b_gate"),
            golden.Parameter("r_mag"),
            golden.Parameter("b_mag"),
            golden.Parameter("W_dec"),
            golden.Parameter("b_dec")
        );

    private static PeerStep DictionaryLearningStandard(GoldenStep golden, bool april)
    {
        var sae = new StandardAutoencoder(
            golden.Parameter("encoder_weight"),
            golden.Parameter("encoder_bias"),
            golden.Parameter("decoder_weight", transposed: true),
            golden.Parameter("bias")
        );
        // 500 steps into a warm-up of 2,000 in one file, beyond its end in the others.
        double step = golden.Root.GetProperty("step").GetDouble();
        LossContext Context() => LossContext.Plain with { SparsityScale = Math.Min(1, step++ / 2000) };
        var objective = new StandardObjective(golden.Number("l1_penalty"), WeighsByDecoderNorm: april);
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, Context()),
            losses =>
                [
                    ("mse_loss", losses.Reconstruction),
                    ("sparsity_loss", losses.Terms.Single().Value),
                    ("l2_loss", (golden.X - losses.ReconstructionBD).norm(-1).mean()),
                ],
            new()
            {
                ["bias"] = (sae.b_dec, false),
                ["encoder.weight"] = (sae.W_enc, false),
                ["encoder.bias"] = (sae.b_enc, false),
                ["decoder.weight"] = (sae.W_dec, true),
            }
        );
    }

    private static PeerStep DictionaryLearningGated(GoldenStep golden)
    {
        var sae = new GatedAutoencoder(
            golden.Parameter("encoder_weight"),
            golden.Parameter("gate_bias"),
            golden.Parameter("r_mag"),
            golden.Parameter("mag_bias"),
            golden.Parameter("decoder_weight", transposed: true),
            golden.Parameter("decoder_bias")
        );
        var objective = new GatedObjective(golden.Number("l1_penalty"));
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, LossContext.Plain),
            losses =>
                [
                    ("mse_loss", losses.Reconstruction),
                    ("sparsity_loss", losses.Terms[0].Value),
                    ("aux_loss", losses.Terms[1].Value),
                ],
            new()
            {
                ["decoder_bias"] = (sae.b_dec, false),
                ["encoder.weight"] = (sae.W_enc, false),
                ["r_mag"] = (sae.r_mag, false),
                ["gate_bias"] = (sae.b_gate, false),
                ["mag_bias"] = (sae.b_mag, false),
                ["decoder.weight"] = (sae.W_dec, true),
            }
        );
    }

    private static PeerStep DictionaryLearningJumpRelu(GoldenStep golden)
    {
        var threshold = golden.Parameter("threshold");
        var sae = new JumpReluAutoencoder(
            golden.Parameter("W_enc", transposed: true),
            golden.Parameter("b_enc"),
            threshold,
            golden.Parameter("W_dec"),
            golden.Parameter("b_dec")
        )
        {
            SubtractsDecoderBias = false,
        };
        var objective = new JumpReluObjective
        {
            Sparsity = JumpReluSparsity.TargetL0,
            Coefficient = golden.Number("sparsity_penalty"),
            TargetL0 = golden.Number("target_l0"),
            Bandwidth = (float)golden.Number("bandwidth"), // which the peer keeps in float32
        };
        return new PeerStep(
            sae,
            x => objective.Of(sae, threshold, x, LossContext.Plain),
            losses => [("l2_loss", losses.Reconstruction)],
            new()
            {
                ["W_enc"] = (sae.W_enc, true),
                ["b_enc"] = (sae.b_enc, false),
                ["W_dec"] = (sae.W_dec, false),
                ["b_dec"] = (sae.b_dec, false),
                ["threshold"] = (threshold, false),
            }
        );
    }

    private static PeerStep DictionaryLearningTopK(GoldenStep golden, bool overBatch)
    {
        int k = (int)golden.Number("k");
        var sae = new TopKAutoencoder(
            golden.Parameter("encoder_weight"),
            golden.Parameter("encoder_bias"),
            golden.Parameter("decoder_weight", transposed: true),
            golden.Parameter("b_dec"),
            k
        );
        var objective = new KSparseObjective
        {
            K = k,
            OverBatch = overBatch,
            AuxCoefficient = golden.Number("auxk_alpha"),
            AuxK = (int)golden.Number("top_k_aux"),
        };
        var context = DeadButForThoseThatFire(golden, sae);
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, context),
            losses => [("l2_loss", losses.Reconstruction), ("auxk_loss", losses.Terms[^1].Value)],
            new()
            {
                ["b_dec"] = (sae.b_dec, false),
                ["encoder.weight"] = (sae.W_enc, false),
                ["encoder.bias"] = (sae.b_enc, false),
                ["decoder.weight"] = (sae.W_dec, true),
            }
        );
    }

    private static PeerStep DictionaryLearningMatryoshka(GoldenStep golden)
    {
        var (sae, parameters) = MatrixTopK(golden);
        int[] sizes = [.. golden.Hyper.GetProperty("group_sizes").EnumerateArray().Select(e => e.GetInt32())];
        double[] weights = [.. golden.Hyper.GetProperty("group_weights").EnumerateArray().Select(e => e.GetDouble())];
        var objective = new KSparseObjective
        {
            K = sae.K,
            OverBatch = true,
            GroupSizes = sizes,
            // It takes the mean of weighted losses, which divides by the number of groups once more.
            GroupWeights = [.. weights.Select(weight => weight / sizes.Length)],
            AuxCoefficient = golden.Number("auxk_alpha"),
            AuxK = (int)golden.Number("top_k_aux"),
        };
        var context = DeadButForThoseThatFire(golden, sae);
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, context),
            losses =>
                [
                    ("auxk_loss", losses.Terms[^1].Value),
                    ("min_l2_loss", losses.Terms.SkipLast(1).Select(t => t.Value * weights[0]).MinBy(Value)!),
                    ("max_l2_loss", losses.Terms.SkipLast(1).Select(t => t.Value * weights[0]).MaxBy(Value)!),
                ],
            parameters
        );
    }

    private static PeerStep SaeLensStandard(GoldenStep golden)
    {
        double l1 = golden.Root.GetProperty("coefficients").GetProperty("l1").GetDouble();
        var sae = new StandardAutoencoder(
            golden.Parameter("W_enc", transposed: true),
            golden.Parameter("b_enc"),
            golden.Parameter("W_dec"),
            golden.Parameter("b_dec")
        );
        var objective = new StandardObjective(l1, WeighsByDecoderNorm: true);
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, LossContext.Plain),
            losses => [("mse_loss", losses.Reconstruction), ("l1_loss", losses.Terms.Single().Value * l1)],
            Matrices(sae, sae.b_enc)
        );
    }

    private static PeerStep SaeLensJumpRelu(GoldenStep golden)
    {
        double l0 = golden.Root.GetProperty("coefficients").GetProperty("l0").GetDouble();
        var logThreshold = golden.Parameter("log_threshold");
        var sae = new JumpReluAutoencoder(
            golden.Parameter("W_enc", transposed: true),
            golden.Parameter("b_enc"),
            logThreshold,
            golden.Parameter("W_dec"),
            golden.Parameter("b_dec")
        );
        bool isTanh = golden.Hyper.GetProperty("mode").GetString() == "tanh";
        var objective = new JumpReluObjective
        {
            Sparsity = isTanh ? JumpReluSparsity.Tanh : JumpReluSparsity.L0,
            Coefficient = l0,
            Bandwidth = golden.Number("bandwidth"),
            TanhScale = golden.Number("tanh_scale"),
            PreActCoefficient = isTanh ? golden.Number("pre_act_loss_coefficient") : 0,
            PreActOnDeadAlone = true,
        };
        var dead = golden.DeadF(sae.Features);
        var parameters = Matrices(sae, sae.b_enc);
        parameters["log_threshold"] = (logThreshold, false);
        return new PeerStep(
            sae,
            x => objective.Of(sae, logThreshold.exp(), x, new LossContext(1, _ => dead)),
            losses =>
                [
                    ("mse_loss", losses.Reconstruction),
                    ("l0_loss", losses.Terms[0].Value * l0),
                    .. isTanh
                        ? [("pre_act_loss", losses.Terms[1].Value * objective.PreActCoefficient)]
                        : Array.Empty<(string, Tensor)>(),
                ],
            parameters
        );
    }

    private static PeerStep SaeLensTopK(GoldenStep golden, string file)
    {
        var (sae, parameters) = MatrixTopK(golden);
        bool matryoshka = file.Contains("matryoshka", StringComparison.Ordinal);
        var objective = new KSparseObjective
        {
            K = sae.K,
            OverBatch = matryoshka || file.Contains("batchtopk", StringComparison.Ordinal),
            SelectsByDecoderNorm = golden.Hyper.GetProperty("rescale_acts_by_decoder_norm").GetBoolean(),
            GroupSizes = matryoshka ? [4, 4, 8] : null,
            GroupWeights = matryoshka ? [1, 1, 1] : null,
            AuxCoefficient = 1,
            AuxK = sae.Width / 2,
            AuxKForm = AuxKForm.ScaledByDead,
        };
        var dead = golden.DeadF(sae.Features);
        return new PeerStep(
            sae,
            x => objective.Of(sae, x, new LossContext(1, _ => dead)),
            losses =>
                [
                    ("mse_loss", losses.Reconstruction),
                    ("auxiliary_reconstruction_loss", losses.Terms[^1].Value),
                    .. matryoshka
                        ? [("inner_mse_loss_4", losses.Terms[0].Value), ("inner_mse_loss_8", losses.Terms[1].Value)]
                        : Array.Empty<(string, Tensor)>(),
                ],
            parameters
        );
    }

    /// <summary>OpenAI divides the mean squared error by that of predicting the mean: a factor on ours.</summary>
    private static PeerStep OpenAi(GoldenStep golden)
    {
        int k = (int)golden.Number("k");
        var sae = new TopKAutoencoder(
            golden.Parameter("encoder_weight"),
            golden.Parameter("latent_bias"),
            golden.Parameter("decoder_weight_T"),
            golden.Parameter("pre_bias"),
            k
        );
        bool aux = golden.Hyper.GetProperty("auxk").ValueKind == System.Text.Json.JsonValueKind.Number;
        double coefficient = golden.Number("auxk_coef");
        var objective = new KSparseObjective
        {
            K = k,
            AuxCoefficient = aux ? coefficient : 0,
            AuxK = 4,
            AuxKForm = AuxKForm.NormalizedMovingBias,
        };
        double scale = golden.Expected.GetProperty("losses").GetProperty("mse_scale").GetDouble() / sae.Width;
        var context = DeadButForThoseThatFire(golden, sae);
        return new PeerStep(
            sae,
            x =>
            {
                var losses = objective.Of(sae, x, context);
                var auxiliary = losses.Terms[^1].Value;
                return losses with { Total = (losses.Reconstruction * scale) + (objective.AuxCoefficient * auxiliary) };
            },
            losses =>
                [
                    ("train_recons", losses.Reconstruction * scale),
                    ("train_maxk_recons", losses.Terms[^1].Value * objective.AuxCoefficient),
                ],
            new()
            {
                ["pre_bias"] = (sae.b_dec, false),
                ["latent_bias"] = (sae.b_enc, false),
                ["encoder.weight"] = (sae.W_enc, false),
                ["decoder.weight"] = (sae.W_dec, true),
            }
        );
    }

    private static (TopKAutoencoder, Dictionary<string, (Tensor, bool)>) MatrixTopK(GoldenStep golden)
    {
        var sae = new TopKAutoencoder(
            golden.Parameter("W_enc", transposed: true),
            golden.Parameter("b_enc"),
            golden.Parameter("W_dec"),
            golden.Parameter("b_dec"),
            (int)golden.Number("k")
        );
        return (sae, Matrices(sae, sae.b_enc));
    }

    private static Dictionary<string, (Tensor Value, bool Transposed)> Matrices(Autoencoder sae, Tensor b_enc) =>
        new()
        {
            ["W_enc"] = (sae.W_enc, true),
            ["b_enc"] = (b_enc, false),
            ["W_dec"] = (sae.W_dec, false),
            ["b_dec"] = (sae.b_dec, false),
        };

    private static LossContext DeadButForThoseThatFire(GoldenStep golden, Autoencoder sae)
    {
        var dead = golden.DeadF(sae.Features);
        return new LossContext(1, fired => dead.logical_and_(fired.logical_not())); // and alive from then on
    }

    private static double Value(Tensor scalar) => scalar.to(float64).item<double>();
}
