using Pipeline.Evaluate;
using Pipeline.Shared;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using Pipeline.Shared.Text;
using Pipeline.Shared.Tokens;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>A state dict of a trained HookedTransformer, as e2e_sae keeps it beside its settings.</summary>
public sealed class TransformerLensTests : IDisposable
{
    private readonly TempFolder folder = new();

    public void Dispose() => folder.Dispose();

    [Theory]
    [InlineData("epoch_1.pt")]
    [InlineData("")]
    public void The_real_model_computes_what_its_tensors_say_head_by_head(string file)
    {
        string path = TestData.Require("data", "models", "tiny_gpt2_e2e", file);
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var stored = StateDictFile.Open(TestData.Require("data", "models", "tiny_gpt2_e2e", "epoch_1.pt"));
        using var random = new Generator(1, CPU);
        var tokensBT = randint(50_257, [2, 30], dtype: int64, generator: random);

        using var model = ModelFolder.Open(path).Load();

        model
            .Config.Should()
            .BeEquivalentTo(
                new
                {
                    Layers = 2,
                    Width = 4,
                    Heads = 1,
                    MlpWidth = 16,
                    Context = 1024,
                }
            );
        var logits = model.Forward(tokensBT);
        logits.shape.Should().Equal(2, 30, 50_257);
        (logits - Plain(stored, tokensBT, layers: 2, heads: 1)).abs().max().item<float>().Should().BeLessThan(1e-4f);
    }

    /// <summary>Two heads, which the real model has not, so that their order shows.</summary>
    [Fact]
    public void Heads_come_to_their_places()
    {
        using var none = no_grad();
        using var scope = NewDisposeScope();
        using var random = new Generator(2, CPU);
        Write(Tensors(layers: 1, heads: 2, random));
        WriteSettings("d_model: 4, d_head: 2, d_vocab: 11, n_ctx: 9, n_layers: 1, act_fn: gelu");
        using var stored = StateDictFile.Open(folder["model.pt"]);
        var tokensBT = randint(11, [3, 9], dtype: int64, generator: random);

        using var model = ModelFolder.Open(folder.Path).Load();

        var difference = model.Forward(tokensBT) - Plain(stored, tokensBT, layers: 1, heads: 2);
        difference.abs().max().item<float>().Should().BeLessThan(1e-5f);
    }

    [Fact]
    public void The_real_model_scores_text_with_the_tokenizer_put_beside_it()
    {
        foreach (string name in new[] { "epoch_1.pt", "final_config.yaml" })
        {
            File.Copy(TestData.Require("data", "models", "tiny_gpt2_e2e", name), folder[name]);
        }
        foreach (string name in new[] { "encoder.json", "vocab.bpe" })
        {
            File.Copy(TestData.Require("data", "tokenizers", "gpt2", name), folder[name]);
        }

        var score = Scorer.Score(
            ModelFolder.Open(folder.Path),
            Tokenizers.Load(folder.Path),
            TextSources.Open(TestData.Require("data", "wikipedia", "wikitext2", "wiki.test.raw"), "test"),
            4096,
            null,
            CancellationToken.None
        );

        // Four numbers a token know little more than how frequent it is.
        score.CrossEntropy.Should().BeLessThan(Math.Log(50_257) - 1).And.BeGreaterThan(score.UnigramEntropy);
    }

    [Theory]
    [InlineData("act_fn: gelu, normalization_type: RMS", "normalization_type")]
    [InlineData("act_fn: gelu, positional_embedding_type: rotary", "rotary")]
    [InlineData("act_fn: gelu, attn_only: true", "attn_only")]
    [InlineData("act_fn: solu_ln", "solu_ln")]
    [InlineData("act_fn: gelu, experts: 8", "experts")]
    [InlineData("seed: 1", "act_fn")]
    public void Settings_that_this_model_cannot_follow_are_refused_by_name(string settings, string named)
    {
        Write(Tensors(layers: 1, heads: 2));
        WriteSettings($"d_model: 4, d_head: 2, d_vocab: 11, n_ctx: 9, n_layers: 1, {settings}");

        ((Action)(() => ModelFolder.Open(folder.Path)))
            .Should()
            .Throw<ConfigurationException>()
            .Which.Message.Should()
            .Contain(named)
            .And.Contain(TransformerLensFamily.SettingsFile);
    }

    [Fact]
    public void Tensors_that_the_settings_do_not_tell_of_are_refused_by_name()
    {
        Write(Tensors(layers: 2, heads: 2));
        WriteSettings("d_model: 4, d_head: 2, d_vocab: 11, n_ctx: 9, n_layers: 1, act_fn: gelu");

        ((Action)(() => ModelFolder.Open(folder.Path).Load().Dispose()))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage("*blocks.1.*n_layers*");
    }

    [Fact]
    public void A_state_dict_without_its_settings_says_which_file_is_missing()
    {
        Write(Tensors(layers: 1, heads: 2));

        ((Action)(() => ModelFolder.Open(folder["model.pt"])))
            .Should()
            .Throw<ConfigurationException>()
            .WithMessage($"*{TransformerLensFamily.SettingsFile}*");
    }

    private void WriteSettings(string settings) =>
        folder.Write(TransformerLensFamily.SettingsFile, $"name: x\ntlens_config: {{{settings}}}\n");

    private void Write(List<(string, Tensor)> tensors)
    {
        using var stream = new FileStream(folder["model.pt"], FileMode.Create);
        StateDictWriter.Write(stream, "model", [.. tensors.Select(t => (t.Item1, (object)t.Item2))]);
    }

    private static List<(string, Tensor)> Tensors(int layers, int heads, Generator? random = null)
    {
        const int Width = 4;
        int head = Width / heads;
        var tensors = new List<(string, Tensor)>
        {
            ("embed.W_E", randn(11, Width, generator: random)),
            ("pos_embed.W_pos", randn(9, Width, generator: random)),
            ("ln_final.w", randn(Width, generator: random)),
            ("ln_final.b", randn(Width, generator: random)),
            ("unembed.W_U", randn(Width, 11, generator: random)),
            ("unembed.b_U", randn(11, generator: random)),
        };
        for (int layer = 0; layer < layers; layer++)
        {
            void Add(string name, params long[] shape) =>
                tensors.Add(($"blocks.{layer}.{name}", randn(shape, generator: random)));
            foreach (string norm in new[] { "ln1", "ln2" })
            {
                Add($"{norm}.w", Width);
                Add($"{norm}.b", Width);
            }
            foreach (string name in new[] { "Q", "K", "V" })
            {
                Add($"attn.W_{name}", heads, Width, head);
                Add($"attn.b_{name}", heads, head);
            }
            Add("attn.W_O", heads, head, Width);
            Add("attn.b_O", Width);
            Add("mlp.W_in", Width, 4 * Width);
            Add("mlp.b_in", 4 * Width);
            Add("mlp.W_out", 4 * Width, Width);
            Add("mlp.b_out", Width);
        }
        return tensors;
    }

    /// <summary>TransformerLens' own order of operations, over its own tensors.</summary>
    private static Tensor Plain(StateDictFile stored, Tensor tokensBT, int layers, int heads)
    {
        Tensor Get(string name) => stored.LoadFloat32(name);
        Tensor Norm(Tensor x, string name)
        {
            var centred = x - x.mean([-1], keepdim: true);
            var scale = (centred.pow(2).mean([-1], keepdim: true) + 1e-5).sqrt();
            return (centred / scale * Get($"{name}.w")) + Get($"{name}.b");
        }
        long positions = tokensBT.shape[1];
        var streamBTD = Get("embed.W_E")[tokensBT] + Get("pos_embed.W_pos").narrow(0, 0, positions);
        var futureTT = ones([positions, positions], dtype: ScalarType.Bool).triu(1);
        for (int layer = 0; layer < layers; layer++)
        {
            string block = $"blocks.{layer}";
            var inputBTD = Norm(streamBTD, $"{block}.ln1");
            var attended = Get($"{block}.attn.b_O");
            for (int head = 0; head < heads; head++)
            {
                Tensor Project(string name) =>
                    inputBTD.matmul(Get($"{block}.attn.W_{name}")[head]) + Get($"{block}.attn.b_{name}")[head];
                var query = Project("Q");
                var scores = query.matmul(Project("K").transpose(1, 2)) / Math.Sqrt(query.shape[^1]);
                var pattern = scores.masked_fill(futureTT, double.NegativeInfinity).softmax(-1);
                attended = attended + pattern.matmul(Project("V")).matmul(Get($"{block}.attn.W_O")[head]);
            }
            streamBTD = streamBTD + attended;
            var hidden = Norm(streamBTD, $"{block}.ln2").matmul(Get($"{block}.mlp.W_in")) + Get($"{block}.mlp.b_in");
            var gelu = 0.5 * hidden * (1 + (hidden / Math.Sqrt(2)).erf());
            streamBTD = streamBTD + gelu.matmul(Get($"{block}.mlp.W_out")) + Get($"{block}.mlp.b_out");
        }
        return Norm(streamBTD, "ln_final").matmul(Get("unembed.W_U")) + Get("unembed.b_U");
    }
}
