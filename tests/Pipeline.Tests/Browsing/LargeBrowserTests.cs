using System.Globalization;
using Pipeline.Evaluate.Report;
using Pipeline.Tests.Evaluate.Report;

namespace Pipeline.Tests.Browsing;

/// <summary>A browser of 16,384 latents: what is loaded and drawn does not grow with them. Times are printed, not judged.</summary>
[Collection(OneBrowser.Name)]
public sealed class LargeBrowserTests(Chromium chromium)
{
    private const int Latents = 16_384;

    /// <summary>Rows in a window of this size, with those drawn beyond its edges.</summary>
    private const int MostRows = 80;

    [Fact]
    public async Task First_the_columns_are_loaded_and_the_rows_in_sight_are_drawn()
    {
        using RunFolderFixture run = new();
        run.WriteFeatures(
            RunFolderFixture.EarlyHook,
            RunFolderFixture.TopK,
            FeatureFolder.Files(Latents, describeEach: 8)
        );
        ReportStage.Rebuild(run.Root);
        string folder = run.PathOf($"report/features/{RunFolderFixture.EarlyHook}/{RunFolderFixture.TopK}");
        await using var visit = await chromium.OpenAsync(new Uri(run.PathOf("report/index.html")).AbsoluteUri);
        await visit.Page.AddInitScriptAsync(
            """
            new MutationObserver((_, observer) => {
              if (document.querySelector("#table tbody tr[aria-rowindex]")) { window.rowsAt = performance.now(); observer.disconnect(); }
            }).observe(document, { childList: true, subtree: true });
            """
        );
        int before = visit.Requested.Count;

        await visit.GoToAsync(new Uri(Path.Combine(folder, "index.html")).AbsoluteUri);
        await visit.Rows.First.WaitForAsync();

        visit.Requested.Skip(before).Should().Equal("index.html", "columns.js");
        long bytes =
            new FileInfo(Path.Combine(folder, "index.html")).Length
            + new FileInfo(Path.Combine(folder, "columns.js")).Length;
        bytes.Should().BeLessThan(120L * Latents, "about a hundred bytes a latent");
        (await visit.Rows.CountAsync()).Should().BeInRange(20, MostRows);
        await SayAsync(visit, folder, bytes);
        await visit.PictureAsync("browser-16384");

        await visit.Page.Keyboard.PressAsync("End");
        (await visit.Rows.Last.GetAttributeAsync("aria-rowindex")).Should().Be($"{Latents + 1}");
        (await visit.Rows.CountAsync()).Should().BeInRange(20, MostRows);
        await visit.Page.Keyboard.PressAsync("Home");
        await visit.Page.Keyboard.PressAsync("Enter");
        await visit.Page.WaitForSelectorAsync("#content .histogram");
        visit.Requested.Skip(before + 2).Should().ContainSingle().Which.Should().StartWith("block-");
        visit.Faults.Should().BeEmpty();
    }

    private static async Task SayAsync(Visit visit, string folder, long bytes)
    {
        string paints = await visit.Page.EvaluateAsync<string>(
            "() => performance.getEntriesByType('paint').map(p => `${p.name} ${Math.round(p.startTime)} ms`).join(', ') + `, rows ${Math.round(window.rowsAt)} ms`"
        );
        long[] blocks = [.. Directory.GetFiles(folder, "block-*.js").Select(file => new FileInfo(file).Length)];
        string line = string.Create(
            CultureInfo.InvariantCulture,
            $"{Latents} latents: {paints}; {bytes} bytes before that, {blocks.Length} blocks of {blocks.Average():N0} bytes"
        );
        TestContext.Current.TestOutputHelper?.WriteLine(line);
        TestContext.Current.SendDiagnosticMessage(line);
    }
}
