using System.Runtime.CompilerServices;
using Microsoft.Playwright;

namespace Pipeline.Tests.Browsing;

/// <summary>
/// The browser that pages are opened in, started once: the one <c>PIPELINE_CHROMIUM</c> names, or Chromium or Chrome on the
/// PATH. Playwright drives it; its own builds are not needed. No name resolves in it, so no page reaches a network.
/// </summary>
public sealed class Chromium : IAsyncLifetime
{
    private static readonly string[] Names = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

    private IPlaywright? playwright;
    private IBrowser? browser;

    /// <summary>Where screenshots stay after the tests.</summary>
    public static string Screenshots { get; } =
        Directory.CreateDirectory(Path.Combine(AppContext.BaseDirectory, "screenshots")).FullName;

    private static string? Executable { get; } =
        Environment.GetEnvironmentVariable("PIPELINE_CHROMIUM") is { Length: > 0 } named
            ? named
            : (Environment.GetEnvironmentVariable("PATH") ?? "")
                .Split(Path.PathSeparator, StringSplitOptions.RemoveEmptyEntries)
                .SelectMany(folder => Names.Select(name => Path.Combine(folder, name)))
                .FirstOrDefault(File.Exists);

    public async ValueTask InitializeAsync()
    {
        if (Executable is null)
        {
            return; // each test says so
        }
        playwright = await Playwright.CreateAsync();
        browser = await playwright.Chromium.LaunchAsync(
            new BrowserTypeLaunchOptions
            {
                ExecutablePath = Executable,
                // Containers give neither user namespaces nor much shared memory.
                Args =
                [
                    "--no-sandbox",
                    "--disable-gpu",
                    "--disable-dev-shm-usage",
                    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
                ],
            }
        );
    }

    public async ValueTask DisposeAsync()
    {
        if (browser is not null)
        {
            await browser.DisposeAsync();
        }
        playwright?.Dispose();
    }

    /// <summary>A window of its own; skips the test where there is no browser.</summary>
    internal async Task<Visit> OpenAsync(
        string address,
        int width = 1280,
        int height = 860,
        ColorScheme scheme = ColorScheme.Light,
        bool isPhone = false,
        [CallerMemberName] string test = ""
    )
    {
        if (browser is null)
        {
            TestData.SkipOrFail("No Chromium: install it, or set PIPELINE_CHROMIUM to its path.");
        }
        var context = await browser!.NewContextAsync(
            new BrowserNewContextOptions
            {
                ViewportSize = new ViewportSize { Width = width, Height = height },
                ColorScheme = scheme,
                IsMobile = isPhone,
                HasTouch = isPhone,
                DeviceScaleFactor = isPhone ? 2 : 1,
                ReducedMotion = ReducedMotion.Reduce,
            }
        );
        // A page from disk may ask for the report's files, one from the server for the server's.
        int report = address.IndexOf("/report/", StringComparison.Ordinal);
        var visit = new Visit(await context.NewPageAsync(), test, report < 0 ? address : address[..report]);
        await visit.GoToAsync(address);
        return visit;
    }

    internal Task<Visit> OpenPhoneAsync(string address, [CallerMemberName] string test = "") =>
        OpenAsync(address, 360, 740, isPhone: true, test: test);
}

/// <summary>One browser for all classes that open pages.</summary>
[CollectionDefinition(Name)]
public sealed class OneBrowser : ICollectionFixture<Chromium>
{
    public const string Name = "browser";
}
