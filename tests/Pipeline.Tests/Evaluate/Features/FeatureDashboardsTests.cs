using System.Text.Json.Nodes;
using Pipeline.Evaluate;
using Pipeline.Evaluate.Features;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using Pipeline.Tests.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Evaluate.Features;

/// <summary>The files, on made-up activations of a random model's SAE.</summary>
public sealed class FeatureDashboardsTests : IDisposable
{
    private const int Width = 16;
    private static readonly HookPoint Hook = new(0, HookSite.ResidPost);

    private readonly TempFolder folder = new();
    private readonly DisposeScope scope = NewDisposeScope();
    private readonly Transformer model = TinyModels.Llama(layers: 2);

    public void Dispose()
    {
        model.Dispose();
        scope.Dispose();
        folder.Dispose();
    }

    [Fact]
    public void A_block_says_of_each_latent_what_its_parts_give()
    {
        var codes = new RandomCodes(6, 12, 70, 4);
        var sae = RandomSae(70);
        var settings = new DashboardSettings(FeatureCount.All, Patterns: 0, Seed: 3);

        Publish("run", codes, sae, settings);

        var latents = Latents("run");
        var examples = codes.Examples();
        var sample = new SampledActivations(codes.Sample().Contexts, 70, bos: null);
        using var neighbours = new LatentNeighbours(sae.W_dec, sample);
        var effectFV = new DirectLogitEffect(model).Of(sae.W_dec);
        latents.Select(Number("index")).Should().Equal(Enumerable.Range(0, 70).Select(f => (double)f));
        for (int f = 0; f < 70; f++)
        {
            var json = latents[f];
            float[] fired = [.. codes.Activations[f].Where(a => a > 0)];
            Number("density")(json).Should().Be(fired.Length / 72.0);
            Number("max_activation")(json).Should().Be(fired.DefaultIfEmpty().Max());
            json["dead"]!.GetValue<bool>().Should().Be(fired.Length == 0);
            json["dense"]!.GetValue<bool>().Should().Be(fired.Length > 7);
            json["n2g"].Should().BeNull();
            Numbers(json["histogram"]!["counts"]!).Sum().Should().Be(fired.Length);
            Numbers(json["histogram"]!["edges"]!).Should().HaveCount(fired.Length == 0 ? 0 : 21);
            Pairs(json["nearest_cosine"]!, "latent")
                .Should()
                .Equal(neighbours.ByCosine([f])[0].Select(n => (float)n.Latent));
            Pairs(json["nearest_coactivation"]!, "value")
                .Should()
                .Equal(neighbours.ByCoactivation(f).Select(n => n.Value));
            float[] effectV = [.. effectFV[f].narrow(0, 0, Letters.Count).data<float>()];
            Texts(json["top_logits"]!)
                .Should()
                .Equal(Tokens().OrderByDescending(token => effectV[token]).Take(10).Select(Letters.Text));
            Texts(json["bottom_logits"]!)
                .Should()
                .Equal(Tokens().OrderBy(token => effectV[token]).Take(10).Select(Letters.Text));
            Pairs(json["bottom_logits"]!, "value").First().Should().BeApproximately(effectV.Min(), 1e-6f);
            json["top"]!.AsArray().Select(e => Activation(e!)).Should().Equal(fired.OrderDescending().Take(10));
            json["quantiles"]!.AsArray().Sum(band => Number("count")(band!)).Should().Be(fired.Length);
            foreach (var band in json["quantiles"]!.AsArray())
            {
                band!["examples"]!
                    .AsArray()
                    .Select(e => Activation(e!))
                    .Should()
                    .OnlyContain(a => a >= Number("from")(band) && a <= Number("to")(band))
                    .And.BeInDescendingOrder();
            }
            foreach (var (e, example) in json["top"]!.AsArray().Zip(examples.Of(f)))
            {
                e!["tokens"]!
                    .AsArray()
                    .Select(t => t!.GetValue<string>())
                    .Should()
                    .Equal(example.Tokens.Select(Letters.Text));
                Number("document")(e).Should().Be(example.Document);
                Number("position")(e).Should().Be(example.Position);
            }
        }
    }

    [Fact]
    public void The_index_has_an_entry_for_every_latent_whether_described_or_not()
    {
        var codes = new RandomCodes(6, 12, 70, 4);

        var outputs = Publish("run", codes, RandomSae(70), new DashboardSettings(new FeatureCount(5), 0, 3));

        var index = Index("run");
        Number("latents")(index).Should().Be(70);
        Number("tokens")(index).Should().Be(72);
        Number("sample_tokens")(index).Should().Be(72);
        Number("block")(index).Should().Be(64);
        var columns = index["columns"]!.AsObject();
        columns
            .Select(column => column.Key)
            .Should()
            .Equal("density", "max_activation", "mean_activation", "top_token", "dead", "dense", "n2g_f1", "block");
        columns.Should().OnlyContain(column => column.Value!.AsArray().Count == 70);
        double[] blocks = Numbers(columns["block"]!);
        double[] described = [.. Latents("run").Select(Number("index"))];
        described.Should().HaveCount(5);
        blocks.Should().Equal(Enumerable.Range(0, 70).Select(f => described.Contains(f) ? 0.0 : -1));
        Numbers(columns["dead"]!).Should().Equal(codes.Activations.Select(own => own.All(a => a == 0) ? 1.0 : 0));
        for (int f = 0; f < 70; f++)
        {
            int peak = Array.IndexOf(codes.Activations[f], codes.Activations[f].Max());
            string text =
                Numbers(columns["dead"]!)[f] == 1 ? "" : Letters.Text(codes.Contexts[peak / 12].Tokens[peak % 12]);
            columns["top_token"]![f]!.GetValue<string>().Should().Be(text);
        }
        index["definitions"]!.AsObject().Select(entry => entry.Key).Should().Contain(columns.Select(c => c.Key));
        var fields = Latents("run")[0].AsObject().Select(field => field.Key).Except(["index"]);
        index["definitions"]!.AsObject().Select(entry => entry.Key).Should().Contain(fields);
        outputs.Select(output => output.Name).Should().Equal("features/block-00000.json", "features/index.json");
    }

    [Theory]
    [InlineData(1, 1, 2, 1)]
    [InlineData(2, 2, 2, 1)]
    [InlineData(64, 3, 5, 1)]
    [InlineData(65, 3, 5, 2)]
    public void All_latents_are_described_whatever_their_number(int features, int kept, int positions, int blocks)
    {
        var codes = new RandomCodes(2, positions, features, kept);

        var outputs = Publish("run", codes, RandomSae(features), new DashboardSettings(FeatureCount.All, 0, 3));

        outputs.Should().HaveCount(blocks + 1);
        Latents("run").Should().HaveCount(features);
        Numbers(Index("run")["columns"]!["block"]!)
            .Should()
            .Equal(Enumerable.Range(0, features).Select(f => f / 64 * 1.0));
    }

    [Fact]
    public void With_no_latents_asked_for_there_is_the_index_alone()
    {
        var outputs = Publish("run", new RandomCodes(2, 5, 9, 3), RandomSae(9), new(new FeatureCount(0), 0, 3));

        outputs.Select(output => output.Name).Should().Equal("features/index.json");
        Numbers(Index("run")["columns"]!["block"]!).Should().OnlyContain(block => block == -1);
    }

    [Fact]
    public void Latents_that_N2G_describes_have_their_figures_in_block_and_index()
    {
        var codes = new RandomCodes(6, 12, 20, 4);

        Publish("run", codes, RandomSae(20), new DashboardSettings(new FeatureCount(2), Patterns: 5, Seed: 3));

        var spread = codes.Examples().Spread(5);
        var latents = Latents("run");
        latents.Select(Number("index")).Should().Contain(spread.Select(f => (double)f));
        var described = latents.Where(latent => latent["n2g"] is not null).ToList();
        described.Select(Number("index")).Should().Equal(spread.Order().Select(f => (double)f));
        var column = Index("run")["columns"]!["n2g_f1"]!.AsArray();
        foreach (var latent in described)
        {
            var n2g = latent["n2g"]!;
            int f = (int)Number("index")(latent);
            // Every second context is held out.
            int fired = Enumerable.Range(0, 72).Count(row => row / 12 % 2 == 1 && codes.Activations[f][row] > 0);
            Number("fired")(n2g).Should().Be(fired);
            n2g.AsObject().Select(p => p.Key).Should().Contain(["precision", "recall", "f1", "patterns"]);
            (column[f]?.GetValue<double>()).Should().Be(n2g["f1"]?.GetValue<double>());
        }
        column.Count(f1 => f1 is not null).Should().BeLessThanOrEqualTo(5);
        var mean = Index("run")["n2g"]!;
        Number("latents")(mean).Should().Be(5);
        Number("f1")(mean)
            .Should()
            .BeApproximately(
                described
                    .Select(l => l["n2g"]!["f1"])
                    .Where(f1 => f1 is not null)
                    .Average(f1 => f1!.GetValue<double>()),
                1e-12
            );
    }

    /// <summary>The token 7 is BOS: what fires on it is as if it did not.</summary>
    [Fact]
    public void Nothing_that_is_said_of_a_latent_is_about_BOS()
    {
        const int Bos = 7;
        var codes = new RandomCodes(6, 12, 20, 4);
        bool IsBos(int row) => codes.Contexts[row / 12].Tokens[row % 12] == Bos;
        int[] others = [.. Enumerable.Range(0, 72).Where(row => !IsBos(row))];
        others.Length.Should().BeLessThan(71);

        Publish("run", codes, RandomSae(20), new DashboardSettings(FeatureCount.All, 20, 3), bos: Bos);

        Number("tokens")(Index("run")).Should().Be(others.Length);
        Number("sample_tokens")(Index("run")).Should().Be(others.Length);
        Index("run")["columns"]!["top_token"]!
            .AsArray()
            .Select(token => token!.GetValue<string>())
            .Should()
            .NotContain(Letters.Text(Bos));
        bool firesOnBos = false;
        foreach (var (json, own) in Latents("run").Zip(codes.Activations))
        {
            float[] fired = [.. others.Select(row => own[row]).Where(a => a > 0)];
            firesOnBos |= fired.Length < own.Count(a => a > 0);
            Number("density")(json).Should().Be(fired.Length / (double)others.Length);
            Number("max_activation")(json).Should().Be(fired.DefaultIfEmpty().Max());
            json["dead"]!.GetValue<bool>().Should().Be(fired.Length == 0);
            Numbers(json["histogram"]!["counts"]!).Sum().Should().Be(fired.Length);
            json["quantiles"]!.AsArray().Sum(band => Number("count")(band!)).Should().Be(fired.Length);
            json["top"]!.AsArray().Select(e => Activation(e!)).Should().Equal(fired.OrderDescending().Take(10));
            if (json["n2g"] is { } n2g)
            {
                int heldOut = others.Count(row => row / 12 % 2 == 1 && own[row] > 0);
                Number("fired")(n2g).Should().Be(heldOut);
            }
            var shown = json["top"]!.AsArray().Concat(json["quantiles"]!.AsArray().SelectMany(Examples));
            shown.SelectMany(OnBos).Should().OnlyContain(activation => activation == 0);
        }
        firesOnBos.Should().BeTrue("otherwise nothing was left out");

        static IEnumerable<JsonNode?> Examples(JsonNode? band) => band!["examples"]!.AsArray();

        static IEnumerable<double> OnBos(JsonNode? example) =>
            Numbers(example!["activations"]!)
                .Zip(example["tokens"]!.AsArray())
                .Where(token => token.Second!.GetValue<string>() == Letters.Text(Bos))
                .Select(token => token.First);
    }

    [Fact]
    public void Latents_that_were_taken_away_have_what_came_of_it_and_the_others_null()
    {
        DirectEffect[] effects = [new(3, 0.1, 0.2, double.NaN, 1 / 3.0), new(8, 1, 2, 3, 0.5)];

        Publish("run", new RandomCodes(6, 12, 5, 4), RandomSae(5), new(FeatureCount.All, 0, 3), effects: effects);

        var found = Latents("run").Select(latent => latent["direct_effect"]).ToList();
        found[3]!
            .ToJsonString()
            .Should()
            .Be(
                """{"top_token_drop":0.1,"predicted_top_token_drop":0.2,"random_token_drop":null,"correlation":0.33333334}"""
            );
        found.Where((_, latent) => latent != 3).Should().OnlyContain(other => other == null);
        var definitions = Index("run")["definitions"]!.AsObject().Select(entry => entry.Key);
        definitions.Should().Contain(found[3]!.AsObject().Select(figure => $"direct_effect.{figure.Key}"));
    }

    [Theory]
    [InlineData(0, 0)]
    [InlineData(2, 0)] // within a block, among the latents that N2G describes
    [InlineData(64, 1)]
    [InlineData(130, 3)]
    public void Cut_anywhere_and_taken_up_it_ends_in_the_same_bytes(int stopAt, int blocks)
    {
        var codes = new RandomCodes(6, 12, 130, 4);
        var sae = RandomSae(130);
        var settings = new DashboardSettings(FeatureCount.All, Patterns: 4, Seed: 3);
        var whole = Publish("whole", codes, sae, settings);

        var stopped = () =>
            Publish(
                "cut",
                codes,
                sae,
                settings,
                done =>
                {
                    if (done >= stopAt)
                    {
                        throw new RunInterruptedException("stopped");
                    }
                }
            );
        stopped.Should().Throw<RunInterruptedException>();
        string[] left = Directory.GetFiles(folder["cut"], "block-*.json", SearchOption.AllDirectories);
        var written = left.Where(file => !file.Contains(".work", StringComparison.Ordinal))
            .ToDictionary(f => f, File.GetLastWriteTimeUtc);
        var resumed = Publish("cut", codes, sae, settings);

        resumed.Should().Equal(whole);
        written.Should().HaveCount(blocks);
        written.Should().OnlyContain(file => File.GetLastWriteTimeUtc(file.Key) == file.Value);
    }

    private IReadOnlyList<ManifestOutput> Publish(
        string name,
        RandomCodes codes,
        Autoencoder sae,
        DashboardSettings settings,
        Action<int>? before = null,
        IReadOnlyList<DirectEffect>? effects = null,
        int? bos = null
    )
    {
        using var none = no_grad();
        var stage = new StageFolder(folder[name], "evaluate", [], []);
        stage.Begin();
        using var dashboards = new FeatureDashboards(
            model,
            Hook,
            sae,
            new Letters { BosId = bos },
            settings,
            codes.Examples(bos),
            codes.Sample(bos: bos),
            effects ?? []
        );
        return dashboards.Publish(stage, (done, _) => before?.Invoke(done));
    }

    private static TopKAutoencoder RandomSae(int features)
    {
        using var random = new Generator((ulong)features, CPU);
        return new TopKAutoencoder(
            randn(features, Width, generator: random),
            zeros(features),
            randn(features, Width, generator: random),
            zeros(Width),
            Math.Min(3, features)
        );
    }

    private JsonNode Index(string name) => JsonNode.Parse(File.ReadAllText(folder[name, "features", "index.json"]))!;

    private List<JsonNode> Latents(string name) =>
        [
            .. Directory
                .GetFiles(folder[name, "features"], "block-*.json")
                .Order(StringComparer.Ordinal)
                .SelectMany(file => JsonNode.Parse(File.ReadAllText(file))!["latents"]!.AsArray())
                .Select(latent => latent!),
        ];

    private static IEnumerable<int> Tokens() => Enumerable.Range(0, Letters.Count);

    private static Func<JsonNode, double> Number(string name) => json => json[name]!.GetValue<double>();

    private static double[] Numbers(JsonNode array) => [.. array.AsArray().Select(n => n!.GetValue<double>())];

    private static IEnumerable<float> Pairs(JsonNode array, string name) =>
        array.AsArray().Select(n => n![name]!.GetValue<float>());

    private static IEnumerable<string> Texts(JsonNode array) =>
        array.AsArray().Select(n => n!["token"]!.GetValue<string>());

    private static float Activation(JsonNode example) =>
        example["activations"]![(int)Number("peak")(example)]!.GetValue<float>();

    /// <summary>Ids below 30, though the model's matrices go on to 32.</summary>
    private sealed class Letters : ITokenizer
    {
        public const int Count = 30;

        public int VocabularySize => Count;
        public int? BosId { get; init; }
        public int? EosId => 0;
        public string Hash => "";

        public static string Text(int id) => $"\"{id}\" é";

        public IReadOnlyList<int> Encode(string text) => throw new NotSupportedException();

        public string Decode(IReadOnlyList<int> ids) => throw new NotSupportedException();

        public string TokenText(int id) => Text(id);

        public int BytesOf(int id, bool first) => throw new NotSupportedException();
    }
}
