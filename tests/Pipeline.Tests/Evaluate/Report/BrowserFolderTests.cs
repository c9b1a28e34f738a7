using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Evaluate.Report;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Evaluate.Report;

public sealed class BrowserFolderTests : IDisposable
{
    private const string HookAndSae = $"{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}";
    private const string Browser = $"report/features/{HookAndSae}";

    private readonly RunFolderFixture _run = new();

    public BrowserFolderTests() => ReportStage.Rebuild(_run.Root);

    public void Dispose() => _run.Dispose();

    [Theory]
    [InlineData("columns", "index")]
    [InlineData("block-00000", "block-00000")]
    [InlineData("block-00001", "block-00001")]
    public void Data_scripts_hand_over_the_evaluations_files_whole(string script, string file)
    {
        string text = File.ReadAllText(_run.PathOf($"{Browser}/{script}.js"));
        Match call = Regex.Match(text, "^saeData\\(\"([^\"]+)\", (\".*\")\\);\n$", RegexOptions.Singleline);

        call.Groups[1].Value.Should().Be(script);
        JsonNode? handedOver = JsonNode.Parse(JsonSerializer.Deserialize<string>(call.Groups[2].Value)!);
        JsonNode? evaluated = JsonNode.Parse(
            File.ReadAllText(_run.PathOf($"evaluate/{HookAndSae}/features/{file}.json"))
        );
        JsonNode.DeepEquals(handedOver, evaluated).Should().BeTrue();
        text[..^1].Should().NotContain("\n", "a string literal ends with its line");
    }

    [Fact]
    public void The_policy_admits_the_pages_own_script_and_style_and_data_beside_it()
    {
        string page = File.ReadAllText(_run.PathOf($"{Browser}/index.html"));

        page.Should()
            .Contain(
                $"default-src 'none'; script-src {Hash("script")} 'self'; style-src {Hash("style")}; base-uri 'none'; form-action 'none'"
            );
        page.Replace("http://www.w3.org/2000/svg", "", StringComparison.Ordinal)
            .Should()
            .NotContainAny(" style=", " onclick", "javascript:", "http:", "https:");

        string Hash(string tag)
        {
            string content = Regex.Match(page, $"<{tag}>(.*?)</{tag}>", RegexOptions.Singleline).Groups[1].Value;
            return $"'sha256-{Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(content)))}'";
        }
    }

    [Fact]
    public void The_scripts_never_make_markup_of_text() =>
        File.ReadAllText(_run.PathOf($"{Browser}/index.html"))
            .Should()
            .NotContainAny("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(");

    [Fact]
    public void Made_again_the_files_are_the_same_bytes()
    {
        Dictionary<string, string> first = Hashes();

        ReportStage.Rebuild(_run.Root);

        Hashes().Should().Equal(first);
    }

    [Fact]
    public void Blocks_of_an_earlier_evaluation_do_not_stay()
    {
        _run.WriteFeatures(
            RunFolderFixture.EarlyHook,
            RunFolderFixture.TopK,
            FeatureFolder.Files(1024, describeEach: 100)
        );

        ReportStage.Rebuild(_run.Root);

        Hashes().Keys.Should().BeEquivalentTo("columns.js", "block-00000.js", "index.html");
    }

    [Fact]
    public void The_manifest_lists_every_file_and_notices_an_altered_one()
    {
        ReportStage.Run(_run.Root, ReportStage.Folder(_run.Root, []));
        string report = _run.PathOf("report");

        Manifest manifest = Manifest.RequireWhole(report);
        manifest
            .Outputs.Select(output => output.Name)
            .Should()
            .BeEquivalentTo(["index.html", .. Hashes().Keys.Select(name => $"{Browser["report/".Length..]}/{name}")]);
        File.AppendAllText(_run.PathOf($"{Browser}/block-00001.js"), " ");
        manifest.Verify(report, rehash: true).Should().ContainSingle().Which.Where.Should().EndWith("block-00001.js");
    }

    [Fact]
    public void A_block_that_was_altered_after_the_evaluation_is_refused()
    {
        string evaluation = _run.PathOf($"evaluate/{HookAndSae}");
        string[] names =
        [
            "metrics.json",
            "features/index.json",
            "features/block-00000.json",
            "features/block-00001.json",
        ];
        Manifest.Write(
            evaluation,
            Manifest.Create(
                "evaluate",
                [],
                [],
                [.. names.Select(name => ManifestOutput.Of(name, AtomicFile.Digest(Path.Combine(evaluation, name))))]
            )
        );
        ReportStage.Rebuild(_run.Root);
        string block = Path.Combine(evaluation, names[3]);
        File.WriteAllText(block, File.ReadAllText(block).Replace("river", "rivet", StringComparison.Ordinal));

        FluentActions
            .Invoking(() => ReportStage.Rebuild(_run.Root))
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage("*block-00001.json: found SHA-256 *");
    }

    private Dictionary<string, string> Hashes() =>
        Directory
            .GetFiles(_run.PathOf(Browser))
            .ToDictionary(f => Path.GetFileName(f), f => AtomicFile.Digest(f).Sha256);
}
