using System.Globalization;
using Microsoft.Playwright;
using Pipeline.Evaluate.Report;
using Pipeline.Tests.Evaluate.Report;

namespace Pipeline.Tests.Browsing;

/// <summary>A report and a feature browser of 1,024 latents, opened from disk.</summary>
public sealed class PagesOnDisk : IDisposable
{
    internal const int Latents = 1024;

    private readonly RunFolderFixture run = new();

    public PagesOnDisk() => ReportStage.Rebuild(run.Root);

    internal string Report => Address("report/index.html");

    internal string Browser =>
        Address($"report/features/{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}/index.html");

    public void Dispose() => run.Dispose();

    private string Address(string file) => new Uri(run.PathOf(file)).AbsoluteUri;
}

/// <summary>What a reader does with the pages, done by a browser.</summary>
[Collection(OneBrowser.Name)]
public sealed class FeatureBrowserTests(Chromium chromium, PagesOnDisk pages) : IClassFixture<PagesOnDisk>
{
    /// <summary>Described and hostile.</summary>
    private const int Hostile = 420;

    private static readonly int Dead = Enumerable.Range(0, PagesOnDisk.Latents).Count(FeatureFolder.IsDead);

    [Fact]
    public async Task The_report_opens_from_disk_sorts_and_leads_to_the_browser()
    {
        await using var visit = await chromium.OpenAsync(pages.Report);
        await visit.PictureAsync("report", whole: true);

        var heading = visit.Page.Locator("th", new() { HasText = "loss_recovered" }).First.Locator("button");
        await heading.ClickAsync();
        (await visit.TextAsync("table.sortable tbody th")).Should().Contain(RunFolderFixture.TopK);
        await heading.ClickAsync();
        (await visit.TextAsync("table.sortable tbody th")).Should().Contain(RunFolderFixture.Gated);

        await visit.Page.ClickAsync("a:text-is('Browse 1,024 latents')");
        await visit.Rows.First.WaitForAsync();
        await visit.Page.ClickAsync(".crumbs a");
        (await visit.TextAsync("h1")).Should().Be("quickstart");
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_highlighted_latent_of_the_report_opens_at_its_page()
    {
        await using var visit = await chromium.OpenAsync(pages.Report);
        string name = await visit.TextAsync(".feature h4 a");

        await visit.Page.ClickAsync(".feature h4 a");

        await visit.Page.WaitForSelectorAsync("#content .example");
        (await visit.TextAsync("#name")).Should().Be(name);
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_column_sorts_both_ways_and_undefined_entries_stay_last()
    {
        await using var visit = await chromium.OpenAsync(pages.Browser);
        await visit.PictureAsync("browser");

        await visit.Page.ClickAsync("th[data-column=density] button");
        (await visit.Page.GetAttributeAsync("th[data-column=density]", "aria-sort")).Should().Be("descending");
        (await Cells(visit, 3)).Should().Be("34%");
        await visit.Page.ClickAsync("th[data-column=density] button");
        (await Cells(visit, 3)).Should().Be("0%");

        foreach (string direction in new[] { "descending", "ascending" })
        {
            await visit.Page.ClickAsync("th[data-column=n2g_f1] button");
            (await visit.Page.GetAttributeAsync("th[data-column=n2g_f1]", "aria-sort")).Should().Be(direction);
            (await Cells(visit, 6)).Should().NotStartWith("–");
        }
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_search_finds_a_latent_by_number_and_latents_by_token()
    {
        await using var visit = await chromium.OpenAsync(pages.Browser);

        await visit.Page.FillAsync("#search", "137");
        (await Cells(visit, 1)).Should().Be("137");
        await visit.Page.FillAsync("#search", "KRAK");
        (await visit.TextAsync("#count")).Should().EndWith("of 1,024 latents");
        (await visit.Rows.AllInnerTextsAsync()).Should().NotBeEmpty().And.OnlyContain(row => row.Contains("Kraków"));
        await visit.Page.FillAsync("#search", "no such token");
        (await visit.TextAsync("#table tbody")).Should().Contain("No latent matches.");
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_filter_keeps_dead_dense_living_or_described_latents()
    {
        await using var visit = await chromium.OpenAsync(pages.Browser);
        foreach (
            var (filter, kept) in new[]
            {
                ("dead", Dead),
                ("alive", PagesOnDisk.Latents - Dead),
                ("dense", 5),
                ("described", 102),
            }
        )
        {
            await visit.Page.SelectOptionAsync("#filter", filter);
            (await visit.TextAsync("#count"))
                .Should()
                .Be(string.Create(CultureInfo.InvariantCulture, $"{kept:N0} of 1,024 latents"), filter);
        }
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_latent_opens_with_all_that_is_known_of_it_and_back_is_where_the_reader_was()
    {
        await using var visit = await chromium.OpenAsync(pages.Browser);
        await visit.Page.SelectOptionAsync("#filter", "described");
        await visit.Page.ClickAsync("th[data-column=max_activation] button");
        await visit.Page.EvaluateAsync("() => { document.getElementById('scroller').scrollTop = 900; }");
        // The rows are drawn anew once the scrolling is noticed.
        await visit.Page.WaitForFunctionAsync("() => document.querySelector('#table .gap')");
        var middle = visit.Rows.Nth(20);
        string name = (await middle.Locator("td").First.InnerTextAsync()).Trim();
        await middle.Locator("td").Nth(2).ClickAsync();

        await visit.Page.WaitForSelectorAsync("#content .histogram");
        (await visit.TextAsync("#name")).Should().Be($"Latent {name}");
        (await visit.CountAsync("#content .column:first-child > section .example")).Should().Be(10);
        (await visit.CountAsync("#content details .example")).Should().Be(25);
        (await visit.CountAsync("#content .example mark[title]")).Should().Be(35);
        double[] heights = await visit.Page.EvaluateAsync<double[]>(
            "() => [...document.querySelectorAll('.histogram .count')].map(bar => bar.getBBox().height)"
        );
        heights.Should().HaveCount(20).And.BeInDescendingOrder().And.OnlyHaveUniqueItems();
        (await visit.CountAsync("#content .bars li"))
            .Should()
            .Be(36, "ten logits up, ten down, eight neighbours twice");
        (await visit.CountAsync("#content .patterns li")).Should().Be(2);
        (await visit.Page.TitleAsync()).Should().StartWith($"Latent {name}, ");
        await visit.PictureAsync("latent", whole: true);

        await visit.Page.GoBackAsync();
        (await visit.Page.Locator("#table tr[aria-selected=true] td").First.InnerTextAsync()).Trim().Should().Be(name);
        (await visit.Page.GetAttributeAsync("th[data-column=max_activation]", "aria-sort")).Should().Be("descending");
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task What_taking_a_latent_away_does_stands_on_the_pages_of_those_it_was_tried_on()
    {
        await using var visit = await chromium.OpenAsync($"{pages.Browser}#latent=40");
        var panel = visit.Page.Locator("section:has(h2:text-is('Taken away where it is highest'))");
        await panel.WaitForAsync();
        string[] figures = [.. await panel.Locator("dt, dd").AllInnerTextsAsync()];
        figures
            .Should()
            .Equal(
                "top token drop",
                "0.125",
                "predicted top token drop",
                "2.500",
                "random token drop",
                "\u22120.063",
                "correlation",
                "–"
            );
        (await panel.Locator("dt").First.GetAttributeAsync("title")).Should().Be("fall of the logits");

        await visit.Page.EvaluateAsync("() => { location.hash = '#latent=50'; }");
        await Latent(visit, 50);
        await visit.Page.WaitForSelectorAsync("#content .histogram");
        (await panel.CountAsync()).Should().Be(0);
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_neighbour_and_the_latents_before_and_after_are_links()
    {
        await using var visit = await chromium.OpenAsync($"{pages.Browser}#latent=130");
        await visit.Page.WaitForSelectorAsync("#content .histogram");
        await visit.Page.ClickAsync("section:has(h2:text-is('Nearest by cosine')) a >> nth=0");
        await Latent(visit, 143);
        (await visit.TextAsync("#content")).Should().Contain("report.features", "143 is not described");

        await visit.Page.ClickAsync("#next");
        await visit.Page.WaitForFunctionAsync("() => location.hash !== '#latent=143'");
        await visit.Page.ClickAsync("#previous");
        await Latent(visit, 143);
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task Everything_can_be_done_from_the_keyboard()
    {
        await using var visit = await chromium.OpenAsync(pages.Browser);
        await visit.Rows.First.WaitForAsync();
        var keys = visit.Page.Keyboard;

        await keys.PressAsync("ArrowDown");
        await keys.PressAsync("ArrowDown");
        await keys.PressAsync("ArrowUp");
        (await Selected(visit)).Should().Be("3", "the heading is row 1");
        await keys.PressAsync("End");
        (await Selected(visit)).Should().Be("1025");
        (await visit.Page.Locator("#table tr[aria-selected=true]").IsVisibleAsync()).Should().BeTrue();
        await keys.PressAsync("Home");
        (await Selected(visit)).Should().Be("2");

        await keys.PressAsync("/");
        await visit.Page.WaitForFunctionAsync("() => document.activeElement.id === 'search'");
        await keys.TypeAsync("album");
        await keys.PressAsync("ArrowDown");
        await keys.PressAsync("ArrowDown");
        string chosen = (await visit.Page.Locator("#table tr[aria-selected=true] td").First.InnerTextAsync()).Trim();
        await keys.PressAsync("Enter");
        await Latent(visit, int.Parse(chosen, CultureInfo.InvariantCulture));
        await keys.PressAsync("ArrowRight");
        await visit.Page.WaitForFunctionAsync($"() => location.hash !== '#latent={chosen}'");
        await keys.PressAsync("ArrowLeft");
        await Latent(visit, int.Parse(chosen, CultureInfo.InvariantCulture));
        await keys.PressAsync("Escape");
        await visit.Page.WaitForFunctionAsync("() => document.activeElement.id === 'table'");
        (await visit.Page.Locator("#table tr[aria-selected=true] td").First.InnerTextAsync())
            .Trim()
            .Should()
            .Be(chosen);

        await keys.PressAsync("/");
        await visit.Page.WaitForFunctionAsync("() => document.activeElement.id === 'search'");
        await keys.PressAsync("Escape");
        (await visit.TextAsync("#count")).Should().Be("1,024 latents");
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task Tokens_that_look_like_markup_are_text()
    {
        await using var visit = await chromium.OpenAsync($"{pages.Browser}#latent={Hostile}");
        await visit.Page.WaitForSelectorAsync("#content .histogram");

        (await visit.TextAsync("#content .example mark")).Should().Be(FeatureFolder.Hostile[0]);
        (await visit.TextAsync("#content .example")).Should().Contain("&lt;b&gt;").And.Contain("<!--<script>");
        (await visit.CountAsync("img, iframe, object, [onerror], [onmouseover]")).Should().Be(0);
        (await visit.Page.TitleAsync()).Should().StartWith($"Latent {Hostile}, ");
        await visit.Page.Keyboard.PressAsync("Escape");
        await visit.Page.FillAsync("#search", "onerror");
        (await Cells(visit, 2)).Should().Contain(FeatureFolder.Hostile[0]);
        visit.Faults.Should().BeEmpty();
    }

    [Theory]
    [InlineData("#latent=1024", "There is no latent 1024: the last one is 1023.")]
    [InlineData("#latent=-1", "")]
    [InlineData("#latent=x", "")]
    public async Task An_address_of_no_latent_leads_to_the_table(string hash, string status)
    {
        await using var visit = await chromium.OpenAsync(pages.Browser + hash);

        await visit.Rows.First.WaitForAsync();
        (await visit.Page.Locator("#status").TextContentAsync()).Should().Be(status);
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_block_that_is_missing_is_said_on_the_page()
    {
        using var alone = new PagesOnDisk();
        string folder = Path.GetDirectoryName(new Uri(alone.Browser).LocalPath)!;
        File.Delete(Path.Combine(folder, "block-00001.js"));
        await using var visit = await chromium.OpenAsync($"{alone.Browser}#latent=1000");

        (await visit.TextAsync("[role=alert]")).Should().Contain("block-00001.js is not beside this page");
    }

    [Fact]
    public async Task A_phone_shows_every_page_without_scrolling_sideways()
    {
        await using var visit = await chromium.OpenPhoneAsync(pages.Report);
        (await visit.SidewaysAsync()).Should().Be(0, "report");
        await visit.PictureAsync("phone-report", whole: true);

        await visit.GoToAsync(pages.Browser);
        await visit.Rows.First.WaitForAsync();
        (await visit.SidewaysAsync()).Should().Be(0, "table");
        (
            await visit.Page.EvaluateAsync<int>(
                "() => { const s = document.getElementById('scroller'); return s.scrollWidth - s.clientWidth; }"
            )
        )
            .Should()
            .Be(0, "its box");
        await visit.PictureAsync("phone-browser");

        foreach (int latent in new[] { 130, Hostile })
        {
            await visit.GoToAsync($"{pages.Browser}#latent={latent}");
            await visit.Page.WaitForSelectorAsync("#content .histogram");
            (await visit.SidewaysAsync()).Should().Be(0, $"latent {latent}");
        }
        await visit.PictureAsync("phone-latent", whole: true);
        visit.Faults.Should().BeEmpty();
    }

    [Theory]
    [InlineData(ColorScheme.Light)]
    [InlineData(ColorScheme.Dark)]
    public async Task Text_stands_out_in_light_and_in_dark(ColorScheme scheme)
    {
        await using var visit = await chromium.OpenAsync(pages.Report, scheme: scheme);
        string name = scheme.ToString().ToLowerInvariant();
        await visit.PictureAsync($"{name}-report", whole: true);
        (await DimmestAsync(visit)).Should().BeGreaterThan(4.5, "report");

        await visit.GoToAsync(pages.Browser);
        await visit.Rows.First.WaitForAsync();
        await visit.PictureAsync($"{name}-browser");
        (await DimmestAsync(visit)).Should().BeGreaterThan(4.5, "table");

        await visit.GoToAsync($"{pages.Browser}#latent=130");
        await visit.Page.WaitForSelectorAsync("#content .histogram");
        await visit.PictureAsync($"{name}-latent", whole: true);
        (await DimmestAsync(visit)).Should().BeGreaterThan(4.5, "latent");
        bool isDark = await visit.Page.EvaluateAsync<bool>(
            "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).every(part => part < 60)"
        );
        isDark.Should().Be(scheme == ColorScheme.Dark);
        visit.Faults.Should().BeEmpty();
    }

    /// <summary>The least contrast (WCAG 2) of any text with its ground, both in plain colours.</summary>
    private static Task<double> DimmestAsync(Visit visit) =>
        visit.Page.EvaluateAsync<double>(
            """
            () => {
              const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
              const rgba = color => {
                canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data].map(part => part / 255);
              };
              const light = rgb => rgb.slice(0, 3)
                .map(part => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
                .reduce((sum, part, i) => sum + part * [0.2126, 0.7152, 0.0722][i], 0);
              const ground = element => {
                const grounds = [];
                for (let e = element; e; e = e.parentElement) grounds.unshift(rgba(getComputedStyle(e).backgroundColor));
                return grounds.reduce((below, [r, g, b, a]) => below.map((part, i) => part * (1 - a) + [r, g, b][i] * a), [1, 1, 1]);
              };
              const ratios = [...document.body.querySelectorAll("*")]
                .filter(e => e.checkVisibility() && !e.closest("svg, .sr, .skip, :not([href])[id=previous], :not([href])[id=next]")
                  && [...e.childNodes].some(node => node.nodeType === 3 && node.data.trim()))
                .map(e => {
                  const [a, b] = [light(rgba(getComputedStyle(e).color)), light(ground(e))];
                  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
                });
              return Math.min(...ratios);
            }
            """
        );

    private static async Task<string> Cells(Visit visit, int column) =>
        (await visit.Rows.First.Locator($"td:nth-child({column})").InnerTextAsync()).Trim();

    private static async Task<string?> Selected(Visit visit) =>
        await visit.Page.Locator("#table tr[aria-selected=true]").GetAttributeAsync("aria-rowindex");

    private static async Task Latent(Visit visit, int latent) =>
        await visit.Page.WaitForFunctionAsync(
            $"() => document.getElementById('name').textContent === 'Latent {latent}' && document.querySelector('#content .figures')"
        );
}
