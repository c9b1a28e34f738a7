using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Evaluate.Report;
using Pipeline.Evaluate.Scaling;
using Pipeline.Shared;
using Pipeline.Shared.Configuration;
using Pipeline.Shared.Models;

namespace Pipeline.Tests.Evaluate.Report;

public sealed class ScalingSectionTests : IDisposable
{
    private const string LawFile = $"scaling/{RunFolderFixture.EarlyHook}/scaling.json";
    private static readonly int[] Sizes = [512, 1024, 2048, 4096];
    private static readonly int[] Sparsities = [8, 16, 32, 64];

    private readonly RunFolderFixture _run = new();

    public void Dispose() => _run.Dispose();

    [Fact]
    public void A_run_without_the_stage_shows_nothing_of_it()
    {
        _run.Write(LawFile, Law()); // of an earlier pipeline: run.json does not list it

        ReportPage.Render(ReportModel.Read(_run.Root)).Should().NotContain("scaling");
    }

    [Fact]
    public void The_law_is_read_as_it_was_written()
    {
        AddLaw();

        ScalingResult read = ReportModel.Read(_run.Root).Scaling.Single();

        read.Hook.Should().Be(RunFolderFixture.EarlyHook);
        read.Points.Should().Equal(Points());
        read.Fit.Should().BeEquivalentTo(Fit());
        read.Published.Should().Be(ScalingLaw.PublishedThrough(Points()));
    }

    [Fact]
    public void Both_families_of_lines_every_coefficient_and_every_held_out_error_are_shown()
    {
        AddLaw();

        string page = ReportPage.Render(ReportModel.Read(_run.Root));

        page.Should().Contain("href=\"#scaling\"");
        string section = Regex.Match(page, "<section id=\"scaling\".*?</section>", RegexOptions.Singleline).Value;
        string[] charts = [.. Regex.Matches(section, "<svg.*?</svg>", RegexOptions.Singleline).Select(m => m.Value)];
        charts.Should().HaveCount(2).And.OnlyContain(svg => svg.Contains("role=\"img\"", StringComparison.Ordinal));
        foreach (string chart in charts)
        {
            Regex.Count(chart, "<circle class=\"hit\"").Should().Be(16, "every point has its numbers");
            Regex.Count(chart, "stroke-dasharray").Should().BeGreaterThanOrEqualTo(4, "the published law is dashed");
        }
        Sparsities.Should().OnlyContain(k => charts[0].Contains($">k {k}</text>"));
        Sizes.Should().OnlyContain(n => charts[1].Contains($">n {n}</text>"));
        foreach (string name in ScalingLaw.Names)
        {
            section.Should().Contain($"<th scope=\"row\" class=\"key\">{name}</th>");
        }
        section.Should().Contain(">0.26</td>").And.Contain(">−0.017</td>").And.Contain(">−0.042</td>");
        section.Should().Contain("<caption>Held out: n = 4,096</caption>");
        page.Should().Be(ReportPage.Render(ReportModel.Read(_run.Root)), "the same run gives the same bytes");
    }

    [Theory]
    [InlineData("held_out", "no key 'held_out'")]
    [InlineData("coefficients", "no key 'coefficients'")]
    [InlineData("published", "no key 'published'")]
    public void A_law_that_lacks_a_key_is_refused_by_name(string key, string message)
    {
        AddLaw();
        _run.Edit(LawFile, law => law.Remove(key));

        var read = () => ReportModel.Read(_run.Root);

        read.Should().Throw<CorruptArtifactException>().WithMessage($"{LawFile}: found {message}*--only scaling*");
    }

    private void AddLaw()
    {
        _run.Write(LawFile, Law());
        _run.Edit(
            "run.json",
            run =>
                run["stages"]!
                    .AsArray()
                    .Add(
                        new JsonObject
                        {
                            ["name"] = $"scaling/{RunFolderFixture.EarlyHook}",
                            ["seconds"] = 1.5,
                            ["status"] = "complete",
                        }
                    )
        );
    }

    private static JsonObject Law()
    {
        SaeConfig sae = new() { Architecture = Architecture.TopK, K = 8 };
        return ScalingJson.Of(
            new ScalingGrid(HookPoint.Parse(RunFolderFixture.EarlyHook, 12, "test"), [sae]),
            [.. Points().Select(p => new ScalingMeasurement($"topk-{p.Latents}-k{p.K}", p, p.Error / 2, p.K))],
            Fit(),
            resamples: 3
        );
    }

    private static ScalingFit Fit() => ScalingFitter.Fit(Points(), seed: 1, resamples: 3);

    private static List<ScalingPoint> Points()
    {
        ScalingLaw law = new(1.2, -0.12, -0.2, -0.03, -4.5, -0.3);
        Xoshiro256 random = new(2);
        return
        [
            .. Sizes.SelectMany(n =>
                Sparsities.Select(k => new ScalingPoint(
                    n,
                    k,
                    law.Error(n, k) * Math.Exp(0.003 * random.NextGaussian())
                ))
            ),
        ];
    }
}
