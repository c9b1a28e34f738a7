using Pipeline.Evaluate;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class AllHooksTests
{
    private const int Contexts = 5;
    private const int Positions = 12;

    /// <summary>By hand: a forward in which each value is replaced as it comes by, and cross-entropies from its logits.</summary>
    [Theory]
    [InlineData(HookSite.ResidPost, HookSite.ResidPost)]
    [InlineData(HookSite.ResidPre, HookSite.ResidMid)]
    [InlineData(HookSite.MlpOut, HookSite.MlpOut)]
    [InlineData(HookSite.AttnOut, HookSite.ResidPost)]
    public void Splicing_two_hooks_at_once_is_one_forward_with_two_replacements(HookSite first, HookSite second)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = Model();
        var (a, b) = (Plain(new HookPoint(0, first), 1), Plain(new HookPoint(2, second), 2));

        Check(
            model,
            [b, a], // in any order
            new ForwardHooks().Replace(a.Target, x => Through(a.Sae, x)).Replace(b.Target, x => Through(b.Sae, x)),
            new ForwardHooks().Replace(a.Target, x => x * 0).Replace(b.Target, x => x * 0)
        );
    }

    [Fact]
    public void Transcoders_read_one_place_of_their_block_and_replace_another()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = Model();
        HookedSae[] saes =
        [
            .. Enumerable
                .Range(0, 3)
                .Select(layer =>
                    Plain(new HookPoint(layer, HookSite.MlpOut), layer) with
                    {
                        Hook = new HookPoint(layer, HookSite.ResidMid),
                    }
                ),
        ];
        var (byHand, zeros) = (new ForwardHooks(), new ForwardHooks());
        foreach (var sae in saes)
        {
            Tensor? seen = null;
            byHand.Read(sae.Hook, x => seen = x.clone());
            byHand.Replace(sae.Target, _ => Through(sae.Sae, seen!));
            zeros.Replace(sae.Target, x => x * 0);
        }

        Check(model, saes, byHand, zeros);
    }

    private static void Check(Transformer model, HookedSae[] saes, ForwardHooks byHand, ForwardHooks zeros)
    {
        using var random = new Generator(3, CPU);
        var tokensBT = randint(32, [Contexts, Positions], dtype: int64, generator: random);
        int[] ids = Array.ConvertAll(tokensBT.data<long>().ToArray(), token => (int)token);
        var contexts = ids.Chunk(Positions)
            .Select(own => new PackedContext(own, new int[Positions], new int[Positions]))
            .ToList();
        var places = new TokenPlace[Contexts * Positions];
        var joined = new AllHooks(saes);
        var clean = CleanBatch.Run(model, tokensBT, places, [joined.FirstHook]);

        clean.Score(model, [joined.SpliceOf(clean)]);
        if (joined.ZeroOf(clean) is { } splice)
        {
            clean.ScoreLoss(model, splice);
        }
        joined.ScoreZeros(model, contexts, places);

        double cleanLoss = CrossEntropy(model.Forward(tokensBT));
        double expected = CrossEntropy(model.Forward(tokensBT, byHand));
        joined.Spliced.CrossEntropy.Should().BeApproximately(expected, 1e-5);
        joined.Zero.CrossEntropy.Should().BeApproximately(CrossEntropy(model.Forward(tokensBT, zeros)), 1e-5);
        SpliceScore.TokensOf(joined.Zero.Sums.Total()).Should().Be(Contexts * (Positions - 1));
        Math.Abs(expected - cleanLoss).Should().BeGreaterThan(1e-3, "the splices change something");

        double CrossEntropy(Tensor logitsBTV) =>
            nn
                .functional.cross_entropy(
                    logitsBTV.narrow(1, 0, Positions - 1).reshape(-1, 32),
                    tokensBT.narrow(1, 1, Positions - 1).reshape(-1)
                )
                .item<float>();
    }

    private static Transformer Model()
    {
        var model = TinyModels.Llama(layers: 3);
        foreach (var (_, value) in model.Weights.Parameters().Where(p => p.Value.dim() > 1))
        {
            value.mul_(20); // far from uniform predictions
        }
        return model;
    }

    private static HookedSae Plain(HookPoint hook, int seed)
    {
        using var random = new Generator((ulong)seed, CPU);
        var W_dec = nn.functional.normalize(randn(40, 16, generator: random), dim: 1);
        return new HookedSae(hook, hook, new TopKAutoencoder(W_dec, zeros(40), W_dec, zeros(16), 6));
    }

    private static Tensor Through(Autoencoder sae, Tensor xBTD) =>
        sae.Reconstruct(xBTD.reshape(-1, 16)).view(xBTD.shape);
}
