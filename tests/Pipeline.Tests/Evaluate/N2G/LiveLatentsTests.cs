using Pipeline.Evaluate.Features;
using Pipeline.Evaluate.N2G;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate.N2G;

/// <summary>On the shipped model, with an SAE whose latent 3 asks for one direction.</summary>
public class LiveLatentsTests
{
    private static readonly string Folder = Path.Combine(TestData.RepositoryRoot, "data", "models", "wiki-6l");
    private static readonly HookPoint Hook = new(2, HookSite.ResidPost);

    [Fact]
    public void Lists_of_all_lengths_in_one_batch_activate_as_each_does_alone()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var model = ModelFolder.Open(Folder).Load();
        var tokenizer = Tokenizers.Load(Folder);
        int[] text = [.. tokenizer.Encode("The river flows through the town, and the town was named after the river.")];
        int[][] lists = [.. Enumerable.Range(1, text.Length).Select(n => text[..n])];
        using var random = new Generator(1, CPU);
        var sae = new StandardAutoencoder(
            randn(8, 256, generator: random),
            zeros(8),
            randn(8, 256, generator: random),
            zeros(256)
        );
        var live = new LiveLatents(model, Hook, sae);

        float[] together = live.OfLastTokens(lists, latent: 3);

        together.Should().Contain(activation => activation > 0);
        for (int i = 0; i < lists.Length; i++)
        {
            together[i].Should().BeApproximately(live.OfLastTokens([lists[i]], 3)[0], 1e-3f);
        }
    }

    /// <summary>A latent that fires on one token whatever stands before it has that token as its pattern.</summary>
    [Fact]
    public void A_latent_of_one_token_is_described_by_that_token()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var model = ModelFolder.Open(Folder).Load();
        var tokenizer = Tokenizers.Load(Folder);
        int[] before = [.. tokenizer.Encode("In the old town near the")];
        int[] after = [.. tokenizer.Encode(" stood a house of stone.")];
        int token = tokenizer.Encode(" river")[0];
        int[] text = [.. before, token, .. after];
        // The embedding's own direction: before the first block nothing else of the text has come in.
        var hook = new HookPoint(0, HookSite.ResidPre);
        var direction = nn.functional.normalize(model.Weights.TokenEmbedding[token], dim: 0);
        float threshold = 0.9f * model.Weights.TokenEmbedding[token].norm().item<float>();
        var sae = new StandardAutoencoder(
            direction.unsqueeze(0),
            -tensor(new[] { threshold }),
            direction.unsqueeze(0),
            zeros(256)
        );
        var live = new LiveLatents(model, hook, sae);
        var batch = new[] { new PackedContext(text, text, text) };

        var sample = new LatentSample(1, bos: null);
        var latents = sae.Encode(model.Weights.TokenEmbedding.index_select(0, tensor(text, dtype: int64)));
        for (int i = 0; i < 2; i++)
        {
            sample.Add(batch, [.. latents.IndicesBK.data<long>()], [.. latents.ValuesBK.data<float>()]);
        }
        var described = N2GLatent.Of(
            new SampledActivations(sample.Contexts, 1, bos: null),
            0,
            lists => live.OfLastTokens(lists, 0),
            tokenizer.BosId!.Value
        );

        described.Score.Should().Be(new N2GScore(1, 1, 1));
        described.Patterns.Should().ContainSingle();
        described.Patterns[0].Tokens.Should().Equal(token);
        described.Patterns[0].CanPadStart.Should().BeTrue();
    }
}
