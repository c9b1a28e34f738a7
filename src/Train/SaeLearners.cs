using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Kernels;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Train;

/// <summary>An SAE's learner and recipe from its configuration, with initial weights.</summary>
internal static class SaeLearners
{
    /// <summary>Norm of the decoder rows that April 2024's form starts from.</summary>
    private const double UnconstrainedNorm = 0.1;

    /// <param name="sae">Its configuration.</param>
    /// <param name="sample">Activations, scaled as they will be in training; b_dec starts at the targets' geometric median.</param>
    /// <param name="seed">Of the decoder's initial directions.</param>
    /// <param name="steps">Of the whole training.</param>
    /// <param name="isPlain">Whether autograd does what a kernel could: the twin that kernels are compared with.</param>
    public static SaeLearner New(SaeConfig sae, TrainingBatch sample, ulong seed, long steps, bool isPlain = false)
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        var device = sample.XBD.device;
        int width = (int)sample.XBD.shape[1];
        int features = sae.FeaturesFor(width);
        bool isUnit = IsUnit(sae.Architecture);
        using var generator = new Generator(seed, CPU);
        var directionsFD = randn([features, width], generator: generator).to(device);
        var W_dec = directionsFD / directionsFD.norm(1, keepdim: true) * (isUnit ? 1 : UnconstrainedNorm);
        Tensor PerFeature(double value) => full([features], value, device: device).DetachFromDisposeScope();
        var encoder = W_dec.clone().DetachFromDisposeScope();
        // A transcoder does not subtract b_dec, which belongs to its target; its encoder starts centred all the same.
        Tensor EncoderBias() =>
            sae.Transcoder
                ? encoder.matmul(GeometricMedian.Of(sample.XBD)).neg().DetachFromDisposeScope()
                : PerFeature(0);
        T As<T>(T autoencoder)
            where T : Autoencoder =>
            sae.Transcoder
                ? autoencoder with
                {
                    SubtractsDecoderBias = false,
                    W_skip = sae.Skip ? zeros([width, width], device: device).DetachFromDisposeScope() : null,
                }
                : autoencoder;
        var decoder = W_dec.DetachFromDisposeScope();
        var bias = (
            isUnit ? GeometricMedian.Of(sample.TargetBD) : zeros([width], device: device)
        ).DetachFromDisposeScope();
        switch (sae.Architecture)
        {
            case Architecture.Standard or Architecture.StandardApril:
                var standard = As(new StandardAutoencoder(encoder, EncoderBias(), decoder, bias));
                var l1 = new StandardObjective(sae.L1!.Value, WeighsByDecoderNorm: !isUnit);
                return new AutogradLearner(standard, (x, context) => l1.Of(standard, x, context));
            case Architecture.PAnneal:
                return new PAnnealLearner(
                    As(new StandardAutoencoder(encoder, EncoderBias(), decoder, bias)),
                    sae.L1!.Value,
                    new PAnnealLevels((long)(sae.PFrom * steps), steps, sae.PEnd)
                );
            case Architecture.Gated:
                var gated = As(
                    new GatedAutoencoder(encoder, EncoderBias(), PerFeature(0), EncoderBias(), decoder, bias)
                );
                var gate = new GatedObjective(sae.L1!.Value);
                return new AutogradLearner(gated, (x, context) => gate.Of(gated, x, context));
            case Architecture.JumpRelu:
                return new JumpReluLearner(
                    As(
                        new JumpReluAutoencoder(
                            encoder,
                            EncoderBias(),
                            PerFeature(Math.Log(sae.Threshold)),
                            decoder,
                            bias
                        )
                    ),
                    new JumpReluObjective
                    {
                        Sparsity = JumpReluSparsity.L0,
                        Coefficient = sae.L0!.Value,
                        Bandwidth = sae.Bandwidth,
                    }
                );
            default:
                var sparse = As(new TopKAutoencoder(encoder, EncoderBias(), decoder, bias, sae.K!.Value));
                return KSparse(sae, sparse, steps, isPlain);
        }
    }

    public static SaeRecipe Recipe(SaeConfig sae) =>
        new()
        {
            DeadAfter = sae.DeadAfter.Value,
            GradientClip = sae.GradientClip,
            Beta1 = sae.Architecture is Architecture.Gated or Architecture.JumpRelu ? 0 : 0.9,
            UnitDecoder = IsUnit(sae.Architecture),
            ProjectionEpsilon = sae.IsKSparse ? 1e-6 : 0,
        };

    /// <summary>The TopK family over given weights; in float32 on the CPU by the hand-written kernel, unless the plain way is asked for.</summary>
    private static KSparseLearner KSparse(SaeConfig config, TopKAutoencoder sae, long steps, bool isPlain)
    {
        var objective = new KSparseObjective
        {
            K = sae.K,
            OverBatch = config.Architecture != Architecture.TopK,
            GroupSizes =
                config.Architecture == Architecture.MatryoshkaBatchTopK ? config.GroupSizesFor(sae.Width) : null,
            MultiCoefficient = config.MultiTopK,
            AuxCoefficient = config.DeadUsed == DeadLatents.AuxK ? config.AuxCoefficient : 0,
            AuxK = config.AuxKFor(sae.Width),
        };
        bool hasKernel =
            !isPlain
            && config is { MultiTopK: 0, Transcoder: false }
            && Simd.Best != SimdWidth.Scalar // without vectors libtorch's products are faster
            && sae.W_dec.device_type == DeviceType.CPU
            && sae.W_dec.dtype == ScalarType.Float32;
        return new KSparseLearner(
            sae,
            objective,
            objective.OverBatch ? ThresholdAverage.Over(steps) : null,
            hasKernel,
            Recipe(config).ProjectionEpsilon
        );
    }

    private static bool IsUnit(Architecture architecture) => architecture != Architecture.StandardApril;
}
