using System.Text.Json;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Autoencoders;

/// <summary>SAEs written by the peers' own code, beside what the peers compute with them.</summary>
public class SaeFormatGoldenTests
{
    public static TheoryData<string> Files => [.. GoldenFolders.All.Select(folder => folder.Label)];

    [Theory]
    [MemberData(nameof(Files))]
    public void An_SAE_of_a_peer_encodes_and_decodes_as_the_peer_does(string label)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        string folder = GoldenFolders.Require(label);
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "expected.json")));
        using var file = SaeFormats.Of(folder).Load(folder);
        var xBD = Matrix(json.RootElement.GetProperty("x"));

        var latents = file.Sae.Encode(xBD);

        Largest(file.Sae.Dense(latents) - Matrix(json.RootElement.GetProperty("f"))).Should().BeLessThan(1e-5);
        Largest(file.Sae.Decode(latents) - Matrix(json.RootElement.GetProperty("x_hat"))).Should().BeLessThan(1e-5);
    }

    [Theory]
    [MemberData(nameof(Files))]
    public void What_a_format_saves_it_loads_with_the_same_weights_and_words(string label)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var temporary = new TempFolder();
        string folder = GoldenFolders.Require(label);
        var format = SaeFormats.Of(folder);
        using var before = format.Load(folder);
        string copy = Path.Combine(temporary.Path, Path.GetFileName(folder));

        format.Save(copy, before);

        using var after = format.Load(copy);
        after.Origin.Should().Be(before.Origin);
        after.Training.Should().BeEquivalentTo(before.Training);
        after.Sae.Normalization.Should().Be(before.Sae.Normalization);
        after.Sae.SubtractsDecoderBias.Should().Be(before.Sae.SubtractsDecoderBias);
        after.Sae.Architecture.Should().Be(before.Sae.Architecture);
        foreach (var ((name, value), (_, same)) in before.Sae.Parameters.Zip(after.Sae.Parameters))
        {
            Largest(value - same).Should().Be(0, name);
        }
    }

    public static TheoryData<string, string> Pairs =>
        [.. GoldenFolders.All.SelectMany(f => SaeFormats.All.Select(to => (f.Label, to.Name)))];

    /// <summary>What each format can say; everything else is refused by name.</summary>
    private static bool CanSay(string format, Autoencoder sae) =>
        format switch
        {
            "saelens" => true,
            "dictionary_learning" => sae.Normalization == InputNormalization.None,
            "sparsify" => sae is TopKAutoencoder && sae.Normalization == InputNormalization.None,
            _ => sae is TopKAutoencoder or StandardAutoencoder,
        };

    [Theory]
    [MemberData(nameof(Pairs))]
    public void Every_SAE_converts_to_every_format_that_can_say_what_it_does(string label, string to)
    {
        using var temporary = new TempFolder();
        string folder = GoldenFolders.Require(label);
        using var file = SaeFormats.Of(folder).Load(folder);
        string target = temporary.File("converted");

        var convert = () => SaeConversion.Run(folder, SaeFormats.Named(to), target);

        if (CanSay(to, file.Sae))
        {
            convert().LargestDifference.Should().BeLessThan(1e-5);
        }
        else
        {
            convert.Should().Throw<Shared.ConfigurationException>().Which.Message.Should().Contain($"--to {to}");
            Directory.Exists(target).Should().BeFalse();
        }
    }

    [Fact]
    public void A_BatchTopK_survives_SAELens_with_its_k_its_threshold_and_its_groups()
    {
        using var scope = NewDisposeScope();
        using var temporary = new TempFolder();
        string folder = GoldenFolders.Require("dictionary_learning/matryoshka");
        string through = temporary.File("saelens");
        string back = temporary.File("back");

        SaeConversion.Run(folder, SaeFormats.Named("saelens"), through);
        SaeConversion.Run(through, SaeFormats.Named("dictionary_learning"), back);

        using var file = SaeFormats.Of(back).Load(back);
        file.Training.Should().BeEquivalentTo(new SaeTraining("matryoshka_batchtopk", 6, [16, 16, 32]));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_decoder_bias_moves_in_and_out_of_the_encoder_without_a_trace(bool subtracts)
    {
        using var scope = NewDisposeScope();
        using var none = no_grad();
        using var generator = new Generator(1, CPU);
        Tensor Normal(params long[] shape) => randn(shape, float64, generator: generator);
        var sae = new GatedAutoencoder(Normal(12, 5), Normal(12), Normal(12), Normal(12), Normal(12, 5), Normal(5))
        {
            SubtractsDecoderBias = subtracts,
        };
        var xBD = Normal(30, 5);

        var moved = sae.Subtracting(!subtracts);

        moved.SubtractsDecoderBias.Should().Be(!subtracts);
        Largest(moved.Reconstruct(xBD) - sae.Reconstruct(xBD)).Should().BeLessThan(1e-12);
    }

    private static double Largest(Tensor difference) => difference.abs().max().to(float64).item<double>();

    private static Tensor Matrix(JsonElement json) =>
        stack([
            .. json.EnumerateArray().Select(row => tensor(row.EnumerateArray().Select(e => e.GetSingle()).ToArray())),
        ]);
}

/// <summary>The SAE folders with an expected.json, whatever they are.</summary>
internal static class GoldenFolders
{
    private const string None = "none";

    private static string Root => Path.Combine(TestData.Root, "data", "saes");

    public static IReadOnlyList<(string Label, string Path)> All { get; } =
        Directory.Exists(Root)
            ?
            [
                .. Directory
                    .EnumerateFiles(Root, "expected.json", SearchOption.AllDirectories)
                    .Select(file => Path.GetDirectoryName(file)!)
                    .Order(StringComparer.Ordinal)
                    .Select(folder => (Path.GetRelativePath(Root, folder).Replace('\\', '/'), folder)),
            ]
            : [(None, Root)];

    /// <summary>The folder; skips the test where there is none.</summary>
    public static string Require(string label) => TestData.Require(["data", "saes", .. label.Split('/')]);
}
