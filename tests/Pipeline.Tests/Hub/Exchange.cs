using System.Globalization;
using System.Text;
using System.Text.Json.Nodes;
using Microsoft.AspNetCore.Http;

namespace Pipeline.Tests.Hub;

/// <summary>One request being answered, rightly or not.</summary>
internal sealed class Exchange(HubServer server, HttpContext context, Offered? file)
{
    private const int Chunk = 1 << 16;
    private const int MostDrops = 1000;

    public HubServer Server => server;
    public HttpContext Context => context;
    public Offered? File => file;
    private HttpResponse Response => context.Response;

    /// <summary>The first byte the client asks for.</summary>
    public int From =>
        context.Request.Headers.Range is [{ } range, ..]
            ? int.Parse(range["bytes=".Length..].TrimEnd('-'), CultureInfo.InvariantCulture)
            : 0;

    /// <summary>A signed address of the CDN: its signature is a secret too.</summary>
    public string Signed() => $"{server.Cdn.AbsoluteUri}{file!.ETag}?Signature={HubTest.SignatureCanary}";

    public Task StatusAsync(int status, params (string Name, string Value)[] headers)
    {
        Response.StatusCode = status;
        foreach (var (name, value) in headers)
        {
            Response.Headers[name] = value;
        }
        return Task.CompletedTask;
    }

    public async Task JsonAsync(JsonNode json) => await TextAsync(json.ToJsonString());

    public async Task TextAsync(string text)
    {
        Response.ContentType = "application/json";
        await Response.Body.WriteAsync(Encoding.UTF8.GetBytes(text), context.RequestAborted);
    }

    /// <summary>The metadata headers of a file, with some replaced.</summary>
    public void Describe(string? etag = null, long? size = null, string? commit = null)
    {
        Response.Headers["X-Repo-Commit"] = commit ?? HubServer.Commit;
        if (file!.IsLfs)
        {
            Response.Headers["X-Linked-Etag"] = $"\"{etag ?? file.ETag}\"";
            Response.Headers["X-Linked-Size"] = $"{size ?? file.Content.Length}";
            Response.Headers.ETag = "\"mark-of-the-redirect\"";
        }
        else
        {
            Response.Headers.ETag = $"W/\"{etag ?? file.ETag}\"";
        }
    }

    /// <summary>
    /// The content from where the client asks, with any part of the answer replaced. One of which only a part is taken declares
    /// no length, or that of all.
    /// </summary>
    public async Task BodyAsync(
        byte[]? content = null,
        int? take = null,
        string? contentRange = null,
        bool ignoreRange = false,
        bool declareAll = false,
        bool chunked = false,
        string? encoding = null
    )
    {
        byte[] all = content ?? file!.Content;
        int from = ignoreRange ? 0 : From;
        int length = Math.Min(take ?? int.MaxValue, all.Length - from);
        if (from > 0)
        {
            Response.StatusCode = 206;
            contentRange ??= $"bytes {from}-{all.Length - 1}/{all.Length}";
        }
        if (contentRange is { Length: > 0 })
        {
            Response.Headers.ContentRange = contentRange;
        }
        if (encoding is not null)
        {
            Response.Headers.ContentEncoding = encoding;
        }
        if (declareAll || (take is null && !chunked))
        {
            Response.ContentLength = all.Length - from;
        }
        if (HttpMethods.IsHead(context.Request.Method))
        {
            return;
        }
        await WriteAsync(all.AsMemory(from, length));
        await Response.Body.FlushAsync(context.RequestAborted);
    }

    /// <summary>Promises all that the client asks for; <see cref="SendAsync"/> sends it piece by piece.</summary>
    public void StartBody()
    {
        if (From > 0)
        {
            Response.StatusCode = 206;
            Response.Headers.ContentRange = $"bytes {From}-{file!.Content.Length - 1}/{file.Content.Length}";
        }
        Response.ContentLength = file!.Content.Length - From;
    }

    public Task SendAsync(int start, int count) => WriteAsync(file!.Content.AsMemory(start, count));

    /// <summary>Promises everything, sends so many bytes, and breaks the connection.</summary>
    public async Task DropAsync(int bytes)
    {
        await BodyAsync(take: bytes, declareAll: true);
        context.Abort();
    }

    /// <summary>Promises everything, sends so many bytes, and falls silent while the client's clock runs on.</summary>
    public async Task StallAsync(int bytes, TestTime time)
    {
        await BodyAsync(take: bytes, declareAll: true);
        await SilenceAsync(time);
    }

    /// <summary>
    /// Promises everything and sends so many bytes every 29 s of the client's clock, which is no silence, until the client has
    /// had enough; breaks the connection should it never have.
    /// </summary>
    public async Task DripAsync(int bytes, HubTest test)
    {
        StartBody();
        for (int drop = 0, end = From + bytes; drop < MostDrops; drop++, end += bytes)
        {
            await SendAsync(end - bytes, bytes);
            await Response.Body.FlushAsync(context.RequestAborted);
            while (new FileInfo(test.Partial(file!)) is not { Exists: true } arrived || arrived.Length < end)
            {
                await Task.Delay(TimeSpan.FromMilliseconds(1), context.RequestAborted);
            }
            test.Time.Pass(TimeSpan.FromSeconds(29));
        }
        context.Abort();
    }

    /// <summary>The same for an answer of which nothing can be seen at the client.</summary>
    public async Task DripBlanksAsync(HubTest test)
    {
        for (int drop = 0; drop < MostDrops; drop++)
        {
            await Response.Body.WriteAsync(" "u8.ToArray(), context.RequestAborted);
            await Response.Body.FlushAsync(context.RequestAborted);
            await Task.Delay(TimeSpan.FromMilliseconds(1), context.RequestAborted);
            test.Time.Pass(TimeSpan.FromSeconds(29));
        }
        context.Abort();
    }

    public async Task SilenceAsync(TestTime time)
    {
        await time.PassAsync(TimeSpan.FromSeconds(31), context.RequestAborted);
    }

    private async Task WriteAsync(ReadOnlyMemory<byte> bytes)
    {
        for (int at = 0; at < bytes.Length; at += Chunk)
        {
            var chunk = bytes.Slice(at, Math.Min(Chunk, bytes.Length - at));
            await Response.Body.WriteAsync(chunk, context.RequestAborted);
            server.Sent(chunk.Length);
        }
    }
}
