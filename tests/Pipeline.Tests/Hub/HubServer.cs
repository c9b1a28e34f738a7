using System.Globalization;
using System.Net;
using System.Security.Cryptography;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;

namespace Pipeline.Tests.Hub;

internal enum Route
{
    Revision,
    Tree,
    Head,
    Get,
    Cdn,
}

/// <summary>One request as it came in.</summary>
internal sealed record HubRequest(Route Route, string Target, string? Range, string? Authorization);

/// <summary>A file the server offers.</summary>
internal sealed record Offered(string Path, byte[] Content, bool IsLfs)
{
#pragma warning disable CA5350 // git's choice
    public string GitHash { get; } =
        Convert.ToHexStringLower(SHA1.HashData([.. Encoding.ASCII.GetBytes($"blob {Content.Length}\0"), .. Content]));
#pragma warning restore CA5350

    public string ETag => IsLfs ? Convert.ToHexStringLower(SHA256.HashData(Content)) : GitHash;
}

/// <summary>
/// The hub and its CDN over loopback, on two ports. Each route answers as the real one does, or as a script says for its
/// n-th request.
/// </summary>
internal sealed class HubServer : IAsyncDisposable
{
    public const string Commit = "0123456789abcdef0123456789abcdef01234567";
    public const string Repository = "org/name";

    private readonly WebApplication app;
    private readonly Lock gate = new();
    private readonly List<HubRequest> requests = [];
    private readonly Dictionary<string, Offered> files = [];
    private readonly Dictionary<(Route Route, int Number), Func<Exchange, Task>> script = [];
    private readonly Dictionary<Route, Func<Exchange, Task>> always = [];
    private long bodyBytes;

    private HubServer(WebApplication app) => this.app = app;

    public Uri Endpoint { get; private set; } = null!;

    public Uri Cdn { get; private set; } = null!;

    /// <summary>Entries a page of a listing has.</summary>
    public int PageSize { get; set; } = 1000;

    /// <summary>Replaces the listing's entries where set.</summary>
    public JsonArray? Listing { get; set; }

    /// <summary>What went wrong in this server itself.</summary>
    public Exception? Bug { get; private set; }

    /// <summary>Bytes of files handed to the network so far.</summary>
    public long BodyBytes => Interlocked.Read(ref bodyBytes);

    public IReadOnlyList<HubRequest> Requests
    {
        get
        {
            lock (gate)
            {
                return [.. requests];
            }
        }
    }

    public static async Task<HubServer> StartAsync()
    {
        var builder = WebApplication.CreateSlimBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(kestrel =>
        {
            kestrel.Listen(IPAddress.Loopback, 0);
            kestrel.Listen(IPAddress.Loopback, 0);
            kestrel.Limits.MaxResponseBufferSize = 1 << 16;
            kestrel.Limits.MinResponseDataRate = null;
        });
        var app = builder.Build();
        var server = new HubServer(app);
        app.Run(server.AnswerAsync);
        await app.StartAsync();
        Uri[] addresses = [.. app.Urls.Select(url => new Uri(url))];
        (server.Endpoint, server.Cdn) = (addresses[0], addresses[1]);
        return server;
    }

    public Offered Add(string path, byte[] content, bool isLfs = true)
    {
        var file = new Offered(path, content, isLfs);
        files[path] = file;
        return file;
    }

    public Offered Add(string path, string content) => Add(path, Encoding.UTF8.GetBytes(content), isLfs: false);

    /// <summary>The next requests of a route are answered so, one after another; later ones as usual.</summary>
    public void Script(Route route, params Func<Exchange, Task>[] answers)
    {
        for (int i = 0; i < answers.Length; i++)
        {
            script[(route, i + 1)] = answers[i];
        }
    }

    /// <summary>Every request of a route is answered so.</summary>
    public void Always(Route route, Func<Exchange, Task> answer) => always[route] = answer;

    public int Count(Route route) => Requests.Count(request => request.Route == route);

    /// <summary>Requests for content, from the hub or the CDN.</summary>
    public IEnumerable<HubRequest> Bodies => Requests.Where(request => request.Route is Route.Get or Route.Cdn);

    public void Sent(int bytes) => Interlocked.Add(ref bodyBytes, bytes);

    public async ValueTask DisposeAsync()
    {
        using var now = new CancellationTokenSource();
        await now.CancelAsync(); // drops what still waits
        await app.StopAsync(now.Token);
        await app.DisposeAsync();
    }

    private async Task AnswerAsync(HttpContext context)
    {
        string target = context.Features.Get<IHttpRequestFeature>()!.RawTarget;
        bool isCdn = context.Connection.LocalPort == Cdn.Port;
        string path = target.Split('?')[0];
        bool isHead = HttpMethods.IsHead(context.Request.Method);
        Route route =
            isCdn ? Route.Cdn
            : path.Contains("/revision/", StringComparison.Ordinal) ? Route.Revision
            : path.Contains("/tree/", StringComparison.Ordinal) ? Route.Tree
            : isHead ? Route.Head
            : Route.Get;
        string? Header(string name) => context.Request.Headers[name] is [{ } value, ..] ? value : null;
        int number;
        lock (gate)
        {
            requests.Add(new HubRequest(route, target, Header("Range"), Header("Authorization")));
            number = requests.Count(request => request.Route == route);
        }
        string[] atCommit = path.Split($"/{Commit}/");
        string name =
            isCdn ? files.Values.FirstOrDefault(file => path == $"/{file.ETag}")?.Path ?? ""
            : atCommit is [_, var rest] ? Uri.UnescapeDataString(rest)
            : "";
        var exchange = new Exchange(this, context, files.GetValueOrDefault(name));
        try
        {
            if (script.TryGetValue((route, number), out var answer) || always.TryGetValue(route, out answer))
            {
                await answer(exchange);
            }
            else
            {
                await UsualAsync(route, exchange, name);
            }
        }
        catch (Exception e) when (e is OperationCanceledException or ConnectionAbortedException or IOException) { }
        catch (Exception e)
        {
            Bug ??= e;
            throw;
        }
    }

    private async Task UsualAsync(Route route, Exchange exchange, string name)
    {
        switch (route)
        {
            case Route.Revision:
                await exchange.JsonAsync(new JsonObject { ["sha"] = Commit });
                break;
            case Route.Tree:
                await ListAsync(exchange, name);
                break;
            case Route.Head or Route.Get when exchange.File is null:
                await exchange.StatusAsync(404, ("X-Error-Code", "EntryNotFound"));
                break;
            case Route.Head or Route.Get when exchange.File.IsLfs:
                exchange.Describe();
                await exchange.StatusAsync(302, ("Location", exchange.Signed()));
                break;
            default:
                exchange.Describe();
                await exchange.BodyAsync();
                break;
        }
    }

    private async Task ListAsync(Exchange exchange, string folder)
    {
        var query = exchange.Context.Request.Query;
        bool recursive = query["recursive"] == "true";
        string prefix = folder.Length == 0 ? "" : folder + "/";
        var entries = new List<JsonObject>();
        var folders = new HashSet<string>();
        foreach (var file in files.Values.Where(file => file.Path.StartsWith(prefix, StringComparison.Ordinal)))
        {
            string[] parts = file.Path[prefix.Length..].Split('/');
            if (parts.Length > 1 && folders.Add(prefix + parts[0]))
            {
                entries.Add(
                    new JsonObject
                    {
                        ["type"] = "directory",
                        ["path"] = prefix + parts[0],
                        ["oid"] = Commit,
                    }
                );
            }
            if (parts.Length == 1 || recursive)
            {
                entries.Add(Entry(file));
            }
        }
        if (Listing is not null)
        {
            entries = [.. Listing.Select(entry => entry!.DeepClone().AsObject())];
        }
        int from = int.TryParse(query["cursor"], CultureInfo.InvariantCulture, out int cursor) ? cursor : 0;
        if (from + PageSize < entries.Count)
        {
            exchange.Context.Response.Headers.Link =
                $"<{Endpoint.AbsoluteUri.TrimEnd('/')}{exchange.Context.Request.Path}?recursive={(recursive ? "true" : "false")}"
                + $"&cursor={from + PageSize}>; rel=\"next\"";
        }
        await exchange.JsonAsync(new JsonArray([.. entries.Skip(from).Take(PageSize)]));
    }

    public static JsonObject Entry(Offered file)
    {
        var entry = new JsonObject
        {
            ["type"] = "file",
            ["oid"] = file.GitHash,
            ["size"] = file.Content.Length,
            ["path"] = file.Path,
        };
        if (file.IsLfs)
        {
            entry["lfs"] = new JsonObject { ["oid"] = file.ETag, ["size"] = file.Content.Length };
        }
        return entry;
    }
}
