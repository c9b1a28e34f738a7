using Pipeline.Evaluate;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Models;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate;

public class DirectEffectCheckTests
{
    /// <summary>Of the model's 32.</summary>
    private const int Vocabulary = 30;

    private static readonly HookPoint Last = new(2, HookSite.ResidPost);

    /// <summary>After the last block nothing stands between a small contribution and the logits but the final norm.</summary>
    [Fact]
    public void After_the_last_block_a_latent_does_what_its_direct_effect_says()
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        var effects = Check(model, Last, scale: 1e-3f);

        effects.Should().HaveCount(9);
        effects.Average(effect => effect.Correlation).Should().BeGreaterThan(0.85);
        double predicted = effects.Average(effect => effect.PredictedTopDrop);
        effects.Average(effect => effect.TopDrop).Should().BeApproximately(predicted, 0.2 * predicted);
        Math.Abs(effects.Average(effect => effect.AnyDrop)).Should().BeLessThan(0.3 * predicted);
    }

    /// <summary>By hand: each context alone, one value of it changed.</summary>
    [Theory]
    [InlineData(HookSite.ResidPre)]
    [InlineData(HookSite.MlpOut)]
    public void Taken_away_together_contributions_do_what_each_does_alone(HookSite site)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var model = TinyModels.Llama(layers: 3);
        var hook = new HookPoint(1, site);
        var sae = Sae(1);

        var effects = Check(model, hook, scale: 1);

        var expected = Peaks(sae, model, hook)
            .Select(peak =>
            {
                var tokens1T = tensor(peak.Tokens.Select(token => (long)token).ToArray(), 1, peak.Tokens.Length);
                int last = peak.Tokens.Length - 1;
                Tensor? xTD = null;
                var cleanV = model.Forward(
                    tokens1T,
                    new ForwardHooks().Read(hook, x => xTD = x[0].clone().DetachFromDisposeScope())
                )[0][last];
                var value = sae.PreActivations(xTD![last].unsqueeze(0))[0][peak.Latent];
                xTD[last] = xTD[last] - (value * sae.W_dec[peak.Latent]);
                var withoutV = model.Forward(tokens1T, new ForwardHooks().Replace(hook, _ => xTD.unsqueeze(0)))[0][
                    last
                ];
                var effectV = new DirectLogitEffect(model).Of(sae.W_dec[peak.Latent].unsqueeze(0))[0];
                return (cleanV - withoutV)
                    .index_select(0, effectV.narrow(0, 0, Vocabulary).topk(DirectEffectCheck.TopTokens).indexes)
                    .mean()
                    .item<float>();
            });
        effects
            .Select(effect => effect.TopDrop)
            .Order()
            .Should()
            .BeEquivalentTo(
                expected.Select(drop => (double)drop).Order(),
                options =>
                    options
                        .WithStrictOrdering()
                        .Using<double>(c => c.Subject.Should().BeApproximately(c.Expectation, 1e-5))
                        .WhenTypeIs<double>()
            );
    }

    [Fact]
    public void Without_latents_there_is_nothing_to_say()
    {
        DirectEffectCheck.ToJson([]).Should().BeNull();
    }

    private static IReadOnlyList<DirectEffect> Check(Transformer model, HookPoint hook, float scale)
    {
        var sae = Sae(scale);
        int stops = 0;
        var effects = new DirectEffectCheck(model, new HookedSae(hook, hook, sae), Vocabulary).Of(
            Peaks(sae, model, hook),
            24,
            () => stops++
        );
        stops.Should().BeGreaterThan(2, "the contexts do not fit into one forward");
        return effects;
    }

    /// <summary>The strongest latent at the last token of contexts of different lengths.</summary>
    private static List<(int Latent, int[] Tokens)> Peaks(TopKAutoencoder sae, Transformer model, HookPoint hook)
    {
        using var random = new Generator(3, CPU); // its own: other tests draw from the common one meanwhile
        return
        [
            .. Enumerable
                .Range(2, 9)
                .Select(length =>
                {
                    var tokens1T = randint(32, [1, length], dtype: int64, generator: random);
                    Tensor? lastD = null;
                    model.RunHooks(
                        tokens1T,
                        new ForwardHooks().Read(hook, x => lastD = x[0][length - 1].clone().DetachFromDisposeScope())
                    );
                    int latent = (int)sae.PreActivations(lastD!.unsqueeze(0)).argmax().item<long>();
                    return (latent, Array.ConvertAll(tokens1T.data<long>().ToArray(), token => (int)token));
                }),
        ];
    }

    /// <summary>
    /// The smaller the scale the less its latents move x. Decoder rows are not the encoder's: the final norm would take back
    /// most of what is along x.
    /// </summary>
    private static TopKAutoencoder Sae(float scale)
    {
        using var random = new Generator(1, CPU);
        var decoderFD = nn.functional.normalize(randn(40, 16, generator: random), dim: 1);
        return new TopKAutoencoder(randn(40, 16, generator: random) * scale, zeros(40), decoderFD, zeros(16), 6);
    }
}
