using System.Globalization;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tensors;
using TorchSharp;
using static TorchSharp.torch;

namespace Pipeline.Tests.Models;

/// <summary>
/// Every folder of golden/models whose family is supported, against the numbers transformers computes for it: logits and
/// residuals 1e-4, cross-entropy 5e-6, and the cross-entropy after the stream behind block 1 is replaced.
/// </summary>
public class TransformerGoldenTests
{
    private const double ResidualTolerance = 1e-4;
    private const double LossTolerance = 5e-6;

    public static TheoryData<string> Folders() => FoldersWith("config.json");

    public static TheoryData<string> FoldersWithNewerConfig() => FoldersWith("config.v5.json");

    private static TheoryData<string> FoldersWith(string file)
    {
        var data = new TheoryData<string>();
        string root = Path.Combine(TestData.Root, "golden", "models");
        if (!Directory.Exists(root))
        {
            data.Add("(absent)");
            return data;
        }
        foreach (string folder in Directory.GetDirectories(root).Order(StringComparer.Ordinal))
        {
            string path = Path.Combine(folder, file);
            if (!File.Exists(path))
            {
                continue;
            }
            var json = ConfigJson.Read(path);
            if (ModelFamily.All.Any(family => family.ModelType == json.Text("model_type")))
            {
                data.Add(Path.GetFileName(folder));
            }
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Folders))]
    public void Folder_matches_transformers(string name)
    {
        using var none = no_grad();
        Compare(name);
    }

    /// <summary>Where a gradient may be wanted tensor operations run in place of the kernels.</summary>
    [Theory]
    [MemberData(nameof(Folders))]
    public void Folder_matches_transformers_with_gradients_on(string name)
    {
        using var gradients = enable_grad();
        Compare(name);
    }

    [Fact]
    public void Every_family_has_a_folder()
    {
        TestData.Require("golden", "models");
        var seen = Folders()
            .Select(row => ModelFolder.Open(TestData.Require("golden", "models", row.Data)).Config.Family);
        seen.Distinct().Should().BeEquivalentTo(ModelFamily.All.Select(family => family.ModelType));
    }

    private static void Compare(string name)
    {
        string folder = TestData.Require("golden", "models", name);
        using var scope = NewDisposeScope();
        using var expected = SafetensorsFile.Open(Path.Combine(folder, "expected.safetensors"));
        using var model = ModelFolder.Open(folder).Load();
        var tokensBT = expected.Load("input_ids");

        var seen = new Dictionary<string, Tensor>();
        var hooks = new ForwardHooks();
        for (int layer = 0; layer < model.Config.Layers; layer++)
        {
            int at = layer;
            // A hook sees what is added to the stream: behind the norm, where one follows.
            void Read(HookSite site, string key) =>
                hooks.Read(
                    new HookPoint(at, site),
                    x =>
                        seen[
                            expected.Entries.ContainsKey($"{key}_normed.{at}") ? $"{key}_normed.{at}" : $"{key}.{at}"
                        ] = x.clone().DetachFromDisposeScope()
                );
            Read(HookSite.ResidPre, "resid_pre");
            Read(HookSite.AttnOut, "attn_out");
            Read(HookSite.MlpOut, "mlp_out");
            Read(HookSite.ResidPost, "resid_post");
        }
        var logits = model.Forward(tokensBT, hooks);
        double logitsApart = Largest(logits, expected, "logits");
        logitsApart.Should().BeLessThan(ResidualTolerance);
        int compared = 0;
        double? residualsApart = null; // some folders expect none
        foreach (var (key, value) in seen.Where(pair => expected.Entries.ContainsKey(pair.Key)))
        {
            double apart = Largest(value, expected, key);
            apart.Should().BeLessThan(ResidualTolerance, key);
            residualsApart = key.StartsWith("resid_", StringComparison.Ordinal)
                ? Math.Max(residualsApart ?? 0, apart)
                : residualsApart;
            compared++;
        }
        string[] sites = ["resid_pre.", "resid_post.", "attn_out.", "mlp_out."];
        compared
            .Should()
            .Be(expected.Entries.Keys.Count(key => sites.Any(site => key.StartsWith(site, StringComparison.Ordinal))));
        double lossApart = LossOf(model, tokensBT, null, expected, "ce");
        lossApart.Should().BeLessThan(LossTolerance);
        TestContext.Current.SendDiagnosticMessage(
            string.Create(
                CultureInfo.InvariantCulture,
                $"{(is_grad_enabled() ? "tensors" : "kernels")} | {name} | {logitsApart:0.0e-0} | {residualsApart:0.0e-0} | {lossApart:0.0e-0} |"
            )
        );

        Splice(model, tokensBT, expected, "zero", x => x.zeros_like()).Should().BeLessThan(LossTolerance);
        Splice(model, tokensBT, expected, "mean", x => x.mean([0, 1], keepdim: true).expand_as(x))
            .Should()
            .BeLessThan(LossTolerance);
        Splice(model, tokensBT, expected, "affine", x => (x * 0.9) + 0.05).Should().BeLessThan(LossTolerance);
    }

    [Theory]
    [MemberData(nameof(FoldersWithNewerConfig))]
    public void The_config_that_transformers_5_writes_reads_the_same(string name)
    {
        string folder = TestData.Require("golden", "models", name);
        string newer = Path.Combine(folder, "config.v5.json");
        var family = ModelFamily.Named(ConfigJson.Read(newer).Text("model_type"), newer);
        family
            .ReadConfig(ConfigJson.Read(newer))
            .Should()
            .Be(family.ReadConfig(ConfigJson.Read(Path.Combine(folder, "config.json"))));
    }

    private static double Splice(
        Transformer model,
        Tensor tokensBT,
        SafetensorsFile expected,
        string kind,
        Func<Tensor, Tensor> replacement
    )
    {
        var hooks = new ForwardHooks().Replace(new HookPoint(1, HookSite.ResidPost), replacement);
        if (expected.Entries.ContainsKey($"logits.{kind}"))
        {
            var first = model.Forward(tokensBT.narrow(0, 0, 1), hooks);
            if (kind != "mean") // the mean is over both sequences
            {
                Largest(first, expected, $"logits.{kind}").Should().BeLessThan(ResidualTolerance);
            }
        }
        return LossOf(model, tokensBT, hooks, expected, $"ce.{kind}");
    }

    private static double LossOf(
        Transformer model,
        Tensor tokensBT,
        ForwardHooks? hooks,
        SafetensorsFile expected,
        string key
    )
    {
        var losses = NextToken.Losses(model, model.ForwardResidual(tokensBT, hooks), tokensBT);
        return Largest(losses.to(float64).mean([1]), expected, key);
    }

    private static double Largest(Tensor actual, SafetensorsFile expected, string key)
    {
        var wanted = expected.Load(key);
        wanted.shape.Should().Equal(actual.shape, key);
        return (actual.to(float64) - wanted.to(float64)).abs().max().item<double>();
    }
}
