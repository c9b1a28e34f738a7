using System.Globalization;
using System.Net;
using System.Text.Json.Nodes;
using System.Text.RegularExpressions;
using Pipeline.Evaluate.Report;
using Pipeline.Shared;

namespace Pipeline.Tests.Evaluate.Report;

public sealed partial class ReportPageTests : IDisposable
{
    private readonly RunFolderFixture _run = new();

    public void Dispose() => _run.Dispose();

    [Fact]
    public void Page_shows_every_sae_and_every_metric()
    {
        string page = Render();

        foreach ((string hook, string sae) in RunFolderFixture.Saes)
        {
            page.Should().Contain(hook).And.Contain(sae);
        }
        foreach (MetricDefinition metric in MetricCatalog.All)
        {
            page.Should().Contain($"<dt class=\"key\">{metric.Key}</dt>");
        }
        foreach (double recovered in ReportModel.Read(_run.Root).Saes.Select(s => s.Metrics.LossRecovered!.Value))
        {
            page.Should().Contain($">{recovered.ToString("F4", CultureInfo.InvariantCulture)}</td>");
        }
    }

    [Fact]
    public void Every_row_has_a_cell_under_every_heading()
    {
        string page = Render();
        string table = Between(page, "<table class=\"sortable\">", "</table>");
        int headings = Regex.Count(table, "<th scope=\"col\"");

        string[] rows = table.Split("<tbody>")[1].Split("<tr>")[1..];

        rows.Should().HaveCount(RunFolderFixture.Saes.Count);
        rows.Should().OnlyContain(row => Regex.Count(row, "<(td|th)[ >]") == headings);
    }

    [Fact]
    public void Page_states_provenance()
    {
        string text = WebUtility.HtmlDecode(Render());

        text.Should()
            .ContainAll(
                "openai-community/gpt2",
                "hf://datasets/fever/wiki_pages",
                "2025-06-03T09:12:44Z",
                "0.107.0",
                "Invented 9000",
                "39 min 51 s",
                "\"dtype\": \"float16\""
            );
    }

    [Fact]
    public void Summary_names_best_and_worst_loss_recovered() =>
        Between(Render(), "<p class=\"lead\">", "</p>")
            .Should()
            .Be(
                "4 sparse autoencoders on 2 hooks of openai-community/gpt2. Loss recovered runs from "
                    + "<strong>95.9%</strong> (gated-1024-l0.1 at blocks.10.hook_resid_post) to "
                    + "<strong>99.0%</strong> (topk-1024-k32 at blocks.2.hook_resid_post)."
            );

    [Fact]
    public void Page_loads_nothing_and_leads_to_its_browsers_alone()
    {
        string page = Render();

        page.Should().Contain("default-src 'none'");
        LinkTargets()
            .Matches(page)
            .Select(m => m.Groups[1].Value)
            .Should()
            .OnlyContain(target =>
                target.StartsWith('#')
                || target.StartsWith("features/blocks.2.hook_resid_post/", StringComparison.Ordinal)
            );
        page.Should().NotContainAny("url(http", "@import", "<link", "<img", "<iframe", " src=");
    }

    [Fact]
    public void Text_from_artifacts_is_escaped()
    {
        const string Hostile = "<script>alert('x')</script>\"&";
        _run.Edit("run.json", run => run["name"] = Hostile);
        _run.Edit("run.json", run => run["machine"]![Hostile] = Hostile);
        _run.Edit(
            $"evaluate/{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}/metrics.json",
            metrics => metrics["definitions"]!["l0"] = Hostile
        );

        string page = Render();

        page.Should()
            .NotContain("<script>alert")
            .And.Contain("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;");
        Regex.Count(page, "<script>").Should().Be(1);
    }

    [Fact]
    public void Same_model_gives_same_bytes()
    {
        string first = Render();

        Render().Should().Be(first);
    }

    [Fact]
    public void Charts_are_drawn_without_fonts_or_fixed_colours()
    {
        string[] charts = Svg().Matches(Render()).Select(m => m.Value).ToArray();

        charts.Should().HaveCount(4 + RunFolderFixture.Saes.Count, "loss, FVU, two trades, and a histogram for each");
        charts.Should().OnlyContain(svg => svg.Contains("var(--s", StringComparison.Ordinal));
        charts.Should().OnlyContain(svg => !svg.Contains("font-family", StringComparison.Ordinal));
        charts.Should().OnlyContain(svg => !Regex.IsMatch(svg, "=\"(#|black|white)"));
    }

    [Fact]
    public void A_Pareto_front_holds_what_no_other_beats_in_both()
    {
        (double L0, double Value)[] points = [(32, 0.9), (16, 0.8), (64, 0.85), (16, 0.7), (128, 0.95), (64, 0.9)];

        ReportCharts.ParetoFront(points, moreIsBetter: true).Should().Equal((16, 0.8), (32, 0.9), (128, 0.95));
        ReportCharts.ParetoFront(points, moreIsBetter: false).Should().Equal((16, 0.7));
    }

    [Fact]
    public void Ids_are_unique_and_every_reference_has_its_target()
    {
        string page = Render();
        string[] ids = Regex.Matches(page, " id=\"([^\"]+)\"").Select(m => m.Groups[1].Value).ToArray();

        ids.Should().OnlyHaveUniqueItems();
        Regex.Matches(page, "(?:url\\(|href=\")#([^)\"]+)").Select(m => m.Groups[1].Value).Should().BeSubsetOf(ids);
    }

    [Fact]
    public void Fvu_above_one_is_marked()
    {
        Render().Should().NotContain("⚠");
        _run.Edit(
            $"evaluate/{RunFolderFixture.LateHook}/{RunFolderFixture.Gated}/metrics.json",
            metrics => metrics["fvu"] = 1.25
        );

        Render().Should().Contain("⚠ 1.2500</td>").And.Contain("⚠ FVU above 1:");
    }

    [Fact]
    public void Definitions_of_the_artifact_win_over_the_built_in_ones() =>
        Render().Should().Contain("<dt class=\"key\">l0</dt><dd>Mean count of latents above zero, per token.</dd>");

    [Fact]
    public void Examples_shade_tokens_by_activation_and_mark_the_peak()
    {
        ReportModel model = ReportModel.Read(_run.Root);
        LatentHighlight latent = new(
            7,
            0.01,
            8,
            0.5,
            new FeatureExample(["The", " river", " <b>Thames", "\n"], [0, 2, 8, 0], 2)
        );
        SaeResult sae = model.Saes[1] with { Latents = model.Saes[1].Latents! with { Highlights = [latent] } };

        Between(ReportPage.Render(model with { Saes = [sae] }), "<p class=\"example\">", "</p>")
            .Should()
            .Be(
                "The <span class=\"a2\" title=\"2\">river</span> <mark class=\"a8\" title=\"8\">&lt;b&gt;Thames</mark>↵"
            );
    }

    [Fact]
    public void Each_described_sae_has_links_to_its_browser_and_its_best_latents()
    {
        string page = Render();
        string browser = $"features/{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}/index.html";

        page.Should().Contain($"href=\"{browser}\">Browse 1,024 latents</a>");
        page.Should()
            .Contain(
                "102 described, 11 dead, 5 dense; N2G over 102: precision 0.9000, recall 0.6000, F1 0.5125</span>"
            );
        foreach (LatentHighlight latent in ReportModel.Read(_run.Root).Saes[1].Latents!.Highlights)
        {
            page.Should().Contain($"href=\"{browser}#latent={latent.Index}\"");
        }
    }

    [Fact]
    public void Baselines_intervals_and_breakdowns_are_shown_of_those_that_have_them()
    {
        string section = Between(Render(), "<section id=\"comparison\"", "</section>");
        string table = Between(section, "<tbody>", "</tbody>");

        Regex.Count(table, "<th scope=\"row\">").Should().Be(2, "two of four have them");
        table
            .Should()
            .ContainAll(
                "0.9898<small>[0.9798, 0.9998]</small>",
                "title=\"32 directions\">0.8125<small>[0.8025, 0.8225]</small>",
                "title=\"32 active\">0.2375",
                ">0.9125</td>",
                ">0.7125</td>"
            );
        section.Should().Contain("the middle 95% over resampled documents");
        Regex.Count(section, "<details class=\"panel breakdown\">").Should().Be(2);
        section
            .Should()
            .Contain("<th scope=\"row\">word-start</th><td class=\"n\">12,000</td>")
            .And.Contain(">64 – 255</th>");
    }

    [Fact]
    public void An_evaluation_without_them_has_no_such_section()
    {
        ReportModel model = ReportModel.Read(_run.Root);

        ReportPage.Render(model with { Saes = [model.Saes[0], model.Saes[2]] }).Should().NotContain("#comparison");
    }

    [Fact]
    public void An_interval_of_other_than_two_numbers_is_refused()
    {
        _run.Edit(
            $"evaluate/{RunFolderFixture.LateHook}/{RunFolderFixture.TopK}/metrics.json",
            metrics => metrics["intervals"]!["fvu"] = new JsonArray(1, 2, 3)
        );

        FluentActions
            .Invoking(Render)
            .Should()
            .Throw<CorruptArtifactException>()
            .WithMessage("*metrics.json: intervals.fvu: found 3 numbers, expected two*");
    }

    [Fact]
    public void A_run_without_curves_features_or_defined_metrics_still_gives_a_page()
    {
        SaeResult bare = new()
        {
            Hook = "hook_embed",
            Sae = "topk-8-k1",
            HookAndSae = "hook_embed/topk-8-k1",
            Architecture = "topk",
            Features = 8,
            Metrics = new SaeMetrics { Tokens = 0, Density = new DensityHistogram([], []) },
        };
        ReportModel model = ReportModel.Read(_run.Root) with { Saes = [bare] };

        string page = ReportPage.Render(model);

        page.Should().Contain("Loss recovered is undefined").And.NotContain("NaN").And.NotContain("id=\"features\"");
    }

    private string Render() => ReportPage.Render(ReportModel.Read(_run.Root));

    private static string Between(string text, string from, string to)
    {
        int start = text.IndexOf(from, StringComparison.Ordinal) + from.Length;
        return text[start..text.IndexOf(to, start, StringComparison.Ordinal)];
    }

    [GeneratedRegex("href=\"([^\"]*)\"")]
    private static partial Regex LinkTargets();

    [GeneratedRegex("<svg.*?</svg>", RegexOptions.Singleline)]
    private static partial Regex Svg();
}
