using System.Net;
using System.Reflection;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Routing;
using Microsoft.Extensions.DependencyInjection;
using Microsoft.Extensions.Logging;
using Pipeline.Evaluate.View;
using Pipeline.Shared;

namespace Pipeline.View;

/// <summary>
/// The feature browser on the loopback interface:
/// <c>/</c> the page, <c>/report/</c> the run's report, <c>/api/...</c> what the page asks for. It answers to this machine's
/// names only, so that no web page elsewhere can reach it under a name of its own.
/// </summary>
internal static class ViewServer
{
    private const long MaximumBodyBytes = 1 << 20;

    private const string Policy =
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'";

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
        app.MapGet("/", context => Asset(context, "view.html", "text/html; charset=utf-8"));
        app.MapGet("/view.js", context => Asset(context, "view.js", "text/javascript; charset=utf-8"));
        app.MapGet("/view.css", context => Asset(context, "view.css", "text/css; charset=utf-8"));
        string report = Path.GetFullPath(Path.Combine(runFolder, "report", "index.html"));
        app.MapGet(
            "/report/",
            () =>
                File.Exists(report)
                    ? Results.File(report, "text/html; charset=utf-8")
                    : Results.NotFound("This run has no report yet.")
        );
        app.MapGet(
            "/api/saes",
            () =>
                Results.Json(
                    new
                    {
                        run = Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(runFolder))),
                        maximumTokens = probe.MaximumTokens,
                        saes = probe.Saes,
                    }
                )
        );
        app.MapGet(
            "/api/features",
            (string hook, string name) =>
                Find(probe, hook, name) is not { } sae ? Results.NotFound()
                : probe.Features(sae) is { } features ? Results.Content(features, "application/json")
                : Results.NotFound("This SAE has not been evaluated.")
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

    private static Task Asset(HttpContext context, string name, string type)
    {
        context.Response.ContentType = type;
        context.Response.Headers.ContentSecurityPolicy = Policy;
        context.Response.Headers.XContentTypeOptions = "nosniff";
        var stream = Assembly.GetExecutingAssembly().GetManifestResourceStream($"Pipeline.View.{name}")!;
        context.Response.RegisterForDispose(stream);
        return stream.CopyToAsync(context.Response.Body);
    }

    private sealed record LatentsRequest(string Hook, string Name, string Text);
}
