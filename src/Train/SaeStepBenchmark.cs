using System.Text.Json.Nodes;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Configuration;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>
/// One training step on random activations, beside its bound measured in the same process: the encoder's GEMM, and one pass of
/// Adam over memory (four arrays of the size of the weights read, three written).
/// </summary>
public sealed record SaeStepBenchmark
{
    /// <summary>Bytes Adam must move a weight, in units of a copy's (one read, one write).</summary>
    private const double CopiesPerAdamPass = 3.5;

    /// <summary>Rows of the bound's GEMM at a time: all pre-activations at once would need more memory than training does.</summary>
    private const int ChunkRows = 256;

    /// <summary>What dead latents' encoder rows are multiplied by: too small to be kept, and still positive on half of the inputs.</summary>
    private const double DeadEncoderScale = 0.01;

    /// <summary>More than any benchmark trains on.</summary>
    private const long DeadAfter = 1L << 40;

    /// <summary>Too low for AuxK to bring a dead latent back, however long is measured; a step costs the same at any.</summary>
    private const double LearningRate = 1e-9;

    public Architecture Architecture { get; init; } = Architecture.TopK;

    /// <summary>D.</summary>
    public required int Width { get; init; }

    /// <summary>F.</summary>
    public required int Features { get; init; }

    /// <summary>K; for architectures without one it is ignored.</summary>
    public required int K { get; init; }

    /// <summary>B.</summary>
    public required int Batch { get; init; }

    /// <summary>Measured steps, at least 5.</summary>
    public required int Repeats { get; init; }

    /// <summary>
    /// Share of latents that AuxK works on, spread evenly over the dictionary: their encoder rows are shrunk so that they never
    /// come among the k largest, and they are counted as dead from the start. Half of their activations are positive, the most
    /// work AuxK can have of them. Default 0. For the topk family.
    /// </summary>
    public double DeadFraction { get; init; }

    /// <summary>Whether the plain twin, autograd over dense tensors and Adam tensor by tensor, takes steps between the measured ones.</summary>
    public bool WithTwin { get; init; }

    /// <returns>
    /// median_ms, bound_ms, ratio, gemm_ms, adam_pass_ms, tokens_per_s, the shape, and peak_rss_mb with the memory the bound takes,
    /// training_peak_rss_mb without. With dead latents median_ms includes AuxK; dead is their number, without_aux_ms the time of
    /// steps in turn with those, where they are not counted as dead, aux_ms what AuxK adds to one, and aux_share its part in the
    /// whole step: the medians of what turns say, in each of which both are measured. With a twin twin_ms, and twin_speedup over
    /// steps in turn with it.
    /// </returns>
    public JsonObject Run()
    {
        using var scope = NewDisposeScope();
        manual_seed(1);
        var xBD = randn(Batch, Width);
        var deadN = DeadLatentsN();
        var noneN = empty(0, int64);
        using var training = New(xBD, deadN, isPlain: false);
        Action[] steps = [() => Step(training, xBD, deadN), () => Step(training, xBD, noneN)];
        var turns = Stopclock.InTurn(Repeats, DeadFraction > 0 ? steps : steps[..1]);
        double step = turns.Median(0);
        var figures = new JsonObject { ["training_peak_rss_mb"] = (double)Stopclock.PeakMegabytes };
        if (DeadFraction > 0)
        {
            figures["dead"] = Step(training, xBD, deadN);
            figures["without_aux_ms"] = turns.Median(1);
            figures["aux_ms"] = turns.Median(turn => turn[0] - turn[1]);
            figures["aux_share"] = turns.Median(turn => (turn[0] - turn[1]) / turn[0]);
        }
        if (WithTwin)
        {
            using var plain = New(xBD, deadN, isPlain: true);
            var (beside, twin) = Stopclock.MedianMilliseconds(
                Repeats,
                () => Step(training, xBD, deadN),
                () => Step(plain, xBD, deadN)
            );
            figures["twin_ms"] = twin;
            figures["twin_speedup"] = twin / beside;
        }
        var (gemm, adam) = Bound(xBD);
        figures["gemm_ms"] = gemm;
        figures["adam_pass_ms"] = adam;
        figures["tokens_per_s"] = Batch / step * 1000;
        return Stopclock.Report(
            new JsonObject
            {
                ["architecture"] = Spelling.Of(Architecture),
                ["d_model"] = Width,
                ["features"] = Features,
                ["k"] = K,
                ["batch"] = Batch,
                ["repeats"] = Repeats,
            },
            step,
            gemm + adam,
            figures
        );
    }

    private SaeTrainer New(Tensor xBD, Tensor deadN, bool isPlain)
    {
        bool isKSparse =
            Architecture is Architecture.TopK or Architecture.BatchTopK or Architecture.MatryoshkaBatchTopK;
        var config = new SaeConfig
        {
            Architecture = Architecture,
            Features = Features,
            K = isKSparse ? K : null,
            L1 = isKSparse || Architecture == Architecture.JumpRelu ? null : 1,
            L0 = Architecture == Architecture.JumpRelu ? 0.001 : null,
        };
        var recipe = SaeLearners.Recipe(config) with { DeadAfter = DeadAfter };
        var learner = SaeLearners.New(config, new TrainingBatch(xBD), 1, steps: 1000, isPlain);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        learner.Sae.W_enc.index_copy_(0, deadN, learner.Sae.W_enc.index_select(0, deadN) * DeadEncoderScale);
        return isPlain
            ? new SaeTrainer(recipe, learner, new PlainSaeOptimizer(learner, recipe))
            : new SaeTrainer(recipe, learner);
    }

    /// <returns>Latents dead after the step.</returns>
    private static long Step(SaeTrainer trainer, Tensor xBD, Tensor deadN)
    {
        trainer.SetTokensSinceFired(deadN, DeadAfter);
        return trainer.TrainOneStep(xBD, LearningRate).Dead;
    }

    private Tensor DeadLatentsN() =>
        tensor(
            Enumerable
                .Range(0, Features)
                .Where(f => (long)((f + 1) * DeadFraction) > (long)(f * DeadFraction))
                .Select(f => (long)f)
                .ToArray()
        );

    private (double Gemm, double Adam) Bound(Tensor xBD)
    {
        using var none = no_grad();
        var weightDF = randn(Features, Width).t();
        var productRF = empty(Math.Min(Batch, ChunkRows), Features);
        double gemm = Stopclock.MedianMilliseconds(Repeats, () => EncodeInChunks(xBD, weightDF, productRF));
        var source = randn(2, Features, Width);
        var target = empty_like(source);
        return (gemm, CopiesPerAdamPass * Stopclock.MedianMilliseconds(Repeats, () => target.copy_(source)));
    }

    private static void EncodeInChunks(Tensor xBD, Tensor weightDF, Tensor productRF)
    {
        for (long first = 0; first < xBD.shape[0]; first += productRF.shape[0])
        {
            using var scope = NewDisposeScope();
            long rows = Math.Min(productRF.shape[0], xBD.shape[0] - first);
            productRF.narrow(0, 0, rows).addmm_(xBD.narrow(0, first, rows), weightDF, beta: 0, alpha: 1);
        }
    }
}
