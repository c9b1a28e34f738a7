using Microsoft.Playwright;

namespace Pipeline.Tests.Browsing;

/// <summary>A page and what went wrong on it: console errors, exceptions, failed requests, requests to elsewhere.</summary>
internal sealed class Visit : IAsyncDisposable
{
    private readonly string test;
    private readonly List<string> faults = [];
    private readonly List<string> requests = [];

    /// <param name="page">A new page.</param>
    /// <param name="test">Names the screenshots.</param>
    /// <param name="home">How every address that may be asked for begins.</param>
    public Visit(IPage page, string test, string home)
    {
        (Page, this.test) = (page, test);
        page.SetDefaultTimeout(20_000);
        page.Console += (_, message) =>
        {
            if (message.Type is "error" or "warning")
            {
                faults.Add($"console {message.Type}: {message.Text}");
            }
        };
        page.PageError += (_, error) => faults.Add($"exception: {error}");
        page.Dialog += (_, dialog) =>
        {
            faults.Add($"dialog: {dialog.Message}");
            _ = dialog.DismissAsync();
        };
        page.RequestFailed += (_, request) => faults.Add($"failed: {request.Url} ({request.Failure})");
        page.Response += (_, response) =>
        {
            if (response.Status >= 400)
            {
                faults.Add($"status {response.Status}: {response.Url}");
            }
        };
        page.Request += (_, request) =>
        {
            requests.Add(request.Url);
            if (!request.Url.StartsWith(home, StringComparison.Ordinal))
            {
                faults.Add($"request to elsewhere: {request.Url}");
            }
        };
    }

    public IPage Page { get; }

    public IReadOnlyList<string> Faults => faults;

    /// <summary>File names asked for so far, in order.</summary>
    public IReadOnlyList<string> Requested => [.. requests.Select(url => new Uri(url).Segments[^1])];

    public ILocator Rows => Page.Locator("#table tbody tr[aria-rowindex]");

    public async Task GoToAsync(string address) => await Page.GotoAsync(address);

    public Task<int> CountAsync(string selector) => Page.Locator(selector).CountAsync();

    public Task<string> TextAsync(string selector) => Page.Locator(selector).First.InnerTextAsync();

    /// <summary>How far the page, and not a box in it, can be scrolled sideways.</summary>
    public Task<int> SidewaysAsync() =>
        Page.EvaluateAsync<int>("() => document.scrollingElement.scrollWidth - document.documentElement.clientWidth");

    /// <summary>Keeps a picture of the page beside the tests, and says where.</summary>
    public async Task PictureAsync(string name, bool whole = false)
    {
        string path = Path.Combine(Chromium.Screenshots, $"{name}.png");
        await Page.ScreenshotAsync(new PageScreenshotOptions { Path = path, FullPage = whole });
        TestContext.Current.TestOutputHelper?.WriteLine($"{test}: {path}");
    }

    public async ValueTask DisposeAsync() => await Page.Context.DisposeAsync();
}
