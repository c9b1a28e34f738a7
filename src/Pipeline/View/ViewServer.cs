using System.Net;
using System.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.AspNetCore.StaticFiles;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.FileProviders;
using Microsoft.Extensions.Logging;
using Pipeline.Evaluate.Report;
using Pipeline.Evaluate.View;
using Pipeline.Shared;

namespace Pipeline.View;

/// <summary>
/// The feature browser on the loopback interface:
/// <c>/</c> the live page, <c>/report/</c> the run's report and feature browsers, <c>/api/...</c> what the live page asks for. It answers to this machine's
/// names only, so that no web page elsewhere can reach it under a name of its own.
/// </summary>
internal static class ViewServer
{
    private const long MaximumBodyBytes = 1 << 20;

    private const string Policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// <summary>Beside it stands the policy of each page of the report, which admits that page's own script and no other.</summary>
    private const string ReportPolicy =
        "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

    /// <summary>Starts listening; port 0 lets the system choose one. The address is the application's first URL.</summary>
    public static async Task<WebApplication> StartAsync(
        string runFolder,
        LatentProbe probe,
        int port,
        CancellationToken cancel
    )
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, port);
            kestrel.Limits.MaxRequestBodySize = MaximumBodyBytes;
        });
        builder.Services.AddHostFiltering(options => options.AllowedHosts = ["127.0.0.1", "localhost"]);
        var app = builder.Build();
        app.UseHostFiltering();
        app.Use(TellFailures);
        ServeReport(app, Path.GetFullPath(Path.Combine(runFolder, "report")));
        Map(app, runFolder, probe);
        await app.StartAsync(cancel).ConfigureAwait(false);
        return app;
    }

    /// <summary>A failure is told to whoever asked, and on the console.</summary>
    private static async Task TellFailures(HttpContext context, RequestDelegate next)
    {
        try
        {
            await next(context).ConfigureAwait(false);
        }
        catch (Exception e) when (e is not BadHttpRequestException && !context.Response.HasStarted)
        {
            await Console.Error.WriteLineAsync(e is PipelineException ? e.Message : e.ToString()).ConfigureAwait(false);
            context.Response.StatusCode = StatusCodes.Status500InternalServerError;
            await context.Response.WriteAsync(e.Message, context.RequestAborted).ConfigureAwait(false);
        }
    }

    private static void Map(IEndpointRouteBuilder app, string runFolder, LatentProbe probe)
    {
        app.MapGet("/", context => Send(context, Own("view.html"), "text/html"));
        app.MapGet("/view.js", context => Send(context, Own("view.js"), "text/javascript"));
        app.MapGet("/view.css", context => Send(context, Own("view.css"), "text/css"));
        app.MapGet("/latent.js", context => Send(context, ReportAssets.Text("Browser.latent.js"), "text/javascript"));
        app.MapGet("/latent.css", context => Send(context, ReportAssets.Text("Browser.latent.css"), "text/css"));
        app.MapGet("/report.css", context => Send(context, ReportAssets.Text("report.css"), "text/css"));
        app.MapGet("/favicon.ico", () => Results.NoContent());
        app.MapGet(
            "/api/saes",
            () =>
                Results.Json(
                    new
                    {
                        run = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(runFolder))),
                        maximumTokens = probe.MaximumTokens,
                        saes = probe.Saes.Select(sae => new
                        {
                            hook = sae.Hook,
                            name = sae.Name,
                            page = probe.BrowserPage(sae),
                            described = probe.FeatureIndex(sae) is not null,
                        }),
                    }
                )
        );
        app.MapGet(
            "/api/features",
            (string hook, string name) =>
                Find(probe, hook, name) is { } sae && probe.FeatureIndex(sae) is { } index
                    ? Results.Content(index, "application/json")
                    : Results.NotFound("The latents of this SAE are not described.")
        );
        app.MapGet(
            "/api/features/block",
            (string hook, string name, int number) =>
                Find(probe, hook, name) is { } sae && probe.FeatureBlock(sae, number) is { } block
                    ? Results.Content(block, "application/json")
                    : Results.NotFound("There is no such block of latents.")
        );
        app.MapPost(
            "/api/latents",
            (LatentsRequest request) =>
                Find(probe, request.Hook, request.Name) is { } sae
                    ? Results.Json(probe.Probe(sae, request.Text))
                    : Results.NotFound()
        );
    }

    private static ProbedSae? Find(LatentProbe probe, string hook, string name) =>
        probe.Saes.FirstOrDefault(sae => sae == new ProbedSae(hook, name));

    /// <summary>
    /// Pages and data scripts under the report's folder. The file provider resolves nothing outside it and no hidden file,
    /// and what has another ending (the manifest) is not served.
    /// </summary>
    private static void ServeReport(WebApplication app, string report)
    {
        if (!Directory.Exists(report))
        {
            app.MapGet("/report/", () => Results.NotFound("This run has no report yet."));
            return;
        }
        var files = new PhysicalFileProvider(report);
        app.UseDefaultFiles(
            new DefaultFilesOptions
            {
                FileProvider = files,
                RequestPath = "/report",
                DefaultFileNames = ["index.html"],
            }
        );
        app.UseStaticFiles(
            new StaticFileOptions
            {
                FileProvider = files,
                RequestPath = "/report",
                ContentTypeProvider = new FileExtensionContentTypeProvider(
                    new Dictionary<string, string>
                    {
                        [".html"] = "text/html; charset=utf-8",
                        [".js"] = "text/javascript; charset=utf-8",
                    }
                ),
                OnPrepareResponse = served =>
                {
                    Protect(served.Context.Response, ReportPolicy);
                    served.Context.Response.Headers.CacheControl = "no-cache"; // it may be built again
                },
            }
        );
    }

    private static Task Send(HttpContext context, string text, string type)
    {
        context.Response.ContentType = $"{type}; charset=utf-8";
        Protect(context.Response, Policy);
        return context.Response.WriteAsync(text, context.RequestAborted);
    }

    private static void Protect(HttpResponse response, string policy)
    {
        response.Headers.ContentSecurityPolicy = policy;
        response.Headers.XContentTypeOptions = "nosniff";
        response.Headers["Referrer-Policy"] = "no-referrer";
    }

    /// <summary>A file of this folder.</summary>
    private static string Own(string name)
    {
        using var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream($"Pipeline.View.{name}")!;
        using var reader = new StreamReader(stream);
        return reader.ReadToEnd();
    }

    private sealed record LatentsRequest(string Hook, string Name, string Text);
}
