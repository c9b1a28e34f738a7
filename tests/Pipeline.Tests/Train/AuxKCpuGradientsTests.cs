using Pipeline.Shared;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Kernels;
using Pipeline.Shared.Kernels.Screening;
using Pipeline.Train;
using Pipeline.Train.Objectives;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Train;

/// <summary>AuxK's kernel against its plain twin, <see cref="KSparseObjective.NormalizedError"/> by autograd.</summary>
public class AuxKCpuGradientsTests
{
    private const double Coefficient = 1.0 / 32;

    [Theory]
    [InlineData(64, 16, 128, 50, 8)]
    [InlineData(7, 17, 33, 11, 4)] // odd throughout
    [InlineData(300, 130, 97, 97, 20)] // more rows than a tile, a narrow last block, all dead
    [InlineData(2, 3, 5, 1, 4)] // one dead
    [InlineData(50, 33, 60, 9, 9)] // as many as are kept
    [InlineData(50, 33, 60, 9, 30)] // fewer than are kept
    [InlineData(3, 8, 16_000, 15_900, 100)] // more dead than a chunk holds activations for a batch
    [InlineData(3000, 20, 2000, 1990, 100)] // several chunks
    public void Loss_and_gradients_are_those_of_autograd(int batch, int width, int features, int dead, int auxK)
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(width, features, random);
        using var fixture = new Fixture(
            sae,
            batch,
            auxK,
            randn(batch, width, generator: random),
            randn(batch, width, generator: random)
        );

        fixture.Compare([.. Enumerable.Range(0, features).Where(f => f * 7 % features < dead)]);
    }

    [Fact]
    public void Activations_that_are_all_negative_leave_the_residual_and_no_gradient()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(8, 20, random);
        sae.b_enc.requires_grad_(false).sub_(1000).requires_grad_(true);
        using var fixture = new Fixture(sae, 10, 4, randn(10, 8, generator: random), randn(10, 8, generator: random));

        fixture.Compare([0, 3, 19]);

        sae.W_enc.grad![3].abs().max().item<float>().Should().Be(0);
        sae.W_dec.grad![3].abs().max().item<float>().Should().Be(0);
    }

    [Fact]
    public void Nothing_is_touched_where_none_is_dead_or_nothing_is_left_to_reconstruct()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(8, 20, random);
        using var one = new Fixture(sae, 1, 4, randn(1, 8, generator: random), randn(1, 8, generator: random)); // one row has no variance about its mean
        using var exact = new Fixture(sae, 10, 4, randn(10, 8, generator: random), zeros(10, 8));
        using var living = new Fixture(sae, 10, 4, randn(10, 8, generator: random), randn(10, 8, generator: random));

        one.Add([1, 2]).Should().Be(0);
        exact.Add([1, 2]).Should().Be(0);
        living.Add([]).Should().Be(0);

        new[] { sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec }
            .Should()
            .OnlyContain(parameter => (parameter.grad! == Fixture.Before).all().item<bool>());
    }

    [Fact]
    public void Buffers_used_again_for_more_and_for_fewer_dead_change_nothing()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(24, 400, random);
        using var fixture = new Fixture(
            sae,
            200,
            12,
            randn(200, 24, generator: random),
            randn(200, 24, generator: random)
        );

        foreach (int dead in new[] { 30, 390, 1, 100 })
        {
            fixture.Compare([.. Enumerable.Range(5, dead)]);
        }
    }

    /// <summary>Which thread takes which tile differs from run to run.</summary>
    [Fact]
    public void However_work_falls_to_threads_every_bit_is_the_same()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(200, 500, random);
        using var fixture = new Fixture(
            sae,
            1000,
            40,
            randn(1000, 200, generator: random),
            randn(1000, 200, generator: random)
        );
        int[] dead = [.. Enumerable.Range(0, 490)];
        double loss = fixture.Add(dead);
        Tensor[] gradients = [.. fixture.Parameters.Select(parameter => parameter.grad!.clone())];

        for (int run = 0; run < 5; run++)
        {
            fixture.Add(dead).Should().Be(loss);
            fixture
                .Parameters.Zip(gradients, (parameter, gradient) => (parameter.grad! == gradient).all().item<bool>())
                .Should()
                .OnlyContain(equal => equal);
        }
    }

    [Fact]
    public void A_dead_latent_that_was_not_watched_is_refused()
    {
        using var scope = NewDisposeScope();
        using var random = new Generator(5, CPU);
        using var sae = NewSae(8, 20, random);
        using var fixture = new Fixture(sae, 10, 4, randn(10, 8, generator: random), randn(10, 8, generator: random));

        fixture
            .Invoking(it => it.Add([1, 7], watched: [1, 2, 8]))
            .Should()
            .Throw<ArgumentException>()
            .WithMessage("latent 7 is dead and was not watched*");
    }

    private static TopKAutoencoder NewSae(int width, int features, Generator random) =>
        new(
            randn(features, width, generator: random).requires_grad_(true),
            randn(features, generator: random).mul_(0.1).requires_grad_(true),
            randn(features, width, generator: random).requires_grad_(true),
            randn(width, generator: random).requires_grad_(true),
            1
        );

    private sealed class Fixture(TopKAutoencoder sae, int batch, int auxK, Tensor xBD, Tensor residualBD) : IDisposable
    {
        /// <summary>What gradients hold before.</summary>
        public const float Before = 0.25f;

        private readonly RowGradients rows = new(sae.Features);
        private readonly EncoderScreen screen = new(sae.Width, sae.Features, Simd.Best);
        private readonly SparseRows kept = new(batch, batch);
        private AuxKCpuGradients? kernel;

        public Tensor[] Parameters => [sae.W_enc, sae.b_enc, sae.W_dec, sae.b_dec];

        /// <summary>With every fifth latent watched beside the dead, if nothing else is said.</summary>
        public unsafe double Add(int[] dead, int[]? watched = null)
        {
            foreach (var parameter in Parameters)
            {
                parameter.grad = full_like(parameter.detach(), Before);
            }
            kernel ??= new AuxKCpuGradients(sae, screen.Watched, auxK, Coefficient, batch, rows, null);
            using var scope = NewDisposeScope();
            float* inputBD = CpuKernels.Floats((xBD - sae.b_dec).detach());
            screen.Watch(watched ?? [.. dead.Union(Enumerable.Range(0, sae.Features).Where(f => f % 5 == 0)).Order()]);
            screen.Load(CpuKernels.Floats(sae.W_enc), CpuKernels.Floats(sae.b_enc), 2).Should().BeNull();
            screen.SelectOfEachRow(inputBD, 1, 2, kept);
            return kernel.Add(dead, inputBD, CpuKernels.Floats(residualBD.detach().neg()));
        }

        public void Compare(int[] dead)
        {
            foreach (var parameter in Parameters)
            {
                parameter.grad = null;
            }
            var deadN = tensor(dead.Select(f => (long)f).ToArray());
            var preActsBN = nn.functional.linear(
                xBD - sae.b_dec,
                sae.W_enc.index_select(0, deadN),
                sae.b_enc.index_select(0, deadN)
            );
            var loss = KSparseObjective.NormalizedError(
                nn.functional.relu(preActsBN),
                auxK,
                sae.W_dec.index_select(0, deadN),
                residualBD
            );
            (loss * Coefficient).backward();
            Tensor[] expected = [.. Parameters.Select(parameter => parameter.grad!.clone())];

            Add(dead).Should().BeApproximately(loss.item<float>(), 1e-5 * loss.item<float>());

            // b_dec's is added to, the dead latents' rows are written, and the others' stay.
            var livingN = ones(sae.Features, dtype: ScalarType.Bool).index_fill_(0, deadN, false).nonzero().squeeze(-1);
            foreach (var (parameter, gradient) in Parameters.Zip(expected))
            {
                bool isBias = ReferenceEquals(parameter, sae.b_dec);
                var actual = isBias ? parameter.grad! - Before : parameter.grad!.index_select(0, deadN);
                var wanted = isBias ? gradient : gradient.index_select(0, deadN);
                // Beside what b_dec's gradient held, smaller digits are lost.
                double scale = Math.Max(isBias ? 0.01 : 1e-6, wanted.abs().max().item<float>());
                ((actual - wanted).abs().max().item<float>() / scale).Should().BeLessThan(2e-5);
                if (!isBias)
                {
                    (parameter.grad!.index_select(0, livingN) == Before).all().item<bool>().Should().BeTrue();
                }
            }
            foreach (int f in dead)
            {
                rows.TouchedF[f].Should().BeTrue();
                double squared =
                    sae.W_enc.grad![f].square().sum().item<float>() + sae.W_dec.grad![f].square().sum().item<float>();
                rows.SquaredF[f].Should().BeApproximately(squared, 1e-5 * squared);
            }
        }

        public void Dispose()
        {
            kernel?.Dispose();
            screen.Dispose();
        }
    }
}
