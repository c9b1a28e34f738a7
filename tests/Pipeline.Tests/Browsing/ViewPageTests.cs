using Pipeline.Evaluate.View;
using Pipeline.Tests.View;
using Pipeline.View;

namespace Pipeline.Tests.Browsing;

/// <summary>The live page over a finished run: a text goes in, latents come out.</summary>
[Collection(OneBrowser.Name)]
public sealed class ViewPageTests(Chromium chromium, FinishedRun run) : IClassFixture<FinishedRun>, IAsyncLifetime
{
    private LatentProbe? probe;
    private Microsoft.AspNetCore.Builder.WebApplication? server;

    private string Home => server!.Urls.Single() + "/";

    public async ValueTask InitializeAsync()
    {
        probe = LatentProbe.Open(run.Folder);
        server = await ViewServer.StartAsync(run.Folder, probe, port: 0, TestContext.Current.CancellationToken);
    }

    public async ValueTask DisposeAsync()
    {
        await server!.DisposeAsync();
        probe!.Dispose();
    }

    [Fact]
    public async Task A_text_that_is_typed_shows_its_latents_and_a_latent_leads_to_its_page()
    {
        await using var visit = await chromium.OpenAsync(Home);
        await visit.Page.WaitForSelectorAsync("#latents button");

        await visit.Page.FillAsync("#text", "The tower hides the <b>lamp</b>.");
        await visit.Page.Keyboard.PressAsync("Control+Enter");
        await visit.Page.WaitForFunctionAsync("() => document.getElementById('tokens').textContent.includes('tower')");
        (await visit.Page.TextContentAsync("#tokens")).Should().Contain("<b>lamp</b>");
        await visit.Page.ClickAsync("#tokens button >> nth=3");
        await visit.Page.WaitForFunctionAsync("() => document.getElementById('which').textContent.startsWith('on ')");
        (await visit.CountAsync("#latents button")).Should().BeInRange(1, 4, "k is 4");

        await visit.Page.ClickAsync("#latents button >> nth=0");
        string latent = (await visit.TextAsync("#latents .number")).Trim();
        await visit.Page.WaitForSelectorAsync("#feature a");
        (await visit.TextAsync("#feature h3")).Should().StartWith($"Latent {latent}");
        (
            await visit.Page.EvaluateAsync<string>(
                "() => getComputedStyle(document.querySelector('#tokens .a8')).backgroundColor"
            )
        )
            .Should()
            .NotBe("rgba(0, 0, 0, 0)", "the text is shaded by the latent");
        await visit.PictureAsync("view", whole: true);

        await visit.Page.ClickAsync("#feature a");
        await visit.Page.WaitForSelectorAsync("#content .figures");
        (await visit.TextAsync("#name")).Should().Be($"Latent {latent}");
        visit.Faults.Should().BeEmpty();
    }

    [Fact]
    public async Task A_phone_shows_the_live_page_without_scrolling_sideways()
    {
        await using var visit = await chromium.OpenPhoneAsync(Home);
        await visit.Page.WaitForSelectorAsync("#latents button");
        await visit.Page.ClickAsync("#latents button >> nth=0");
        await visit.Page.WaitForSelectorAsync("#feature h3");

        (await visit.SidewaysAsync()).Should().Be(0);
        await visit.PictureAsync("phone-view", whole: true);
        visit.Faults.Should().BeEmpty();
    }
}
