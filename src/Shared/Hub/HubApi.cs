using System.Globalization;
using System.Net;
using System.Text.Json;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Hub;

/// <summary>The hub's questions and answers: one request each, tried once. HubRetry tries again.</summary>
internal sealed partial class HubApi(HubOptions options, HubTransport transport, TimeProvider time)
{
    private const int LongestAnswer = 32 << 20; // 1000 entries a page take under 1 MB
    private static readonly TimeSpan HeadLimit = TimeSpan.FromSeconds(10);

    /// <summary>What a HEAD tells of a file; null where the server does not say.</summary>
    /// <param name="Commit">The commit that answered.</param>
    /// <param name="ETag">The content's hash, or a mirror's own mark.</param>
    /// <param name="Size">Bytes.</param>
    /// <param name="Location">Where the bytes are: a signed address that expires, or the hub itself.</param>
    public sealed record Head(string? Commit, string? ETag, long? Size, Uri Location);

    /// <summary>One page of a listing, its length as it came, and the address of the next.</summary>
    public sealed record Page(IReadOnlyList<Entry> Entries, long Bytes, Uri? Next);

    /// <summary>A file, or a folder (<paramref name="File"/> is null).</summary>
    public sealed record Entry(string Path, HubFile? File);

    /// <summary>The commit a revision stands for.</summary>
    public async Task<string> CommitAsync(HubReference reference, CancellationToken cancel)
    {
        var uri = new Uri($"{Api(reference)}/revision/{Uri.EscapeDataString(reference.Revision)}");
        var (json, _, _) = await ReadJsonAsync(reference, "", uri, cancel).ConfigureAwait(false);
        using (json)
        {
            return
                json.RootElement.ValueKind == JsonValueKind.Object
                && json.RootElement.TryGetProperty("sha", out var sha)
                && sha.ValueKind == JsonValueKind.String
                && HubReference.IsGitHash(sha.GetString()!)
                ? sha.GetString()!
                : throw new HubTransientException("an answer without a commit hash");
        }
    }

    /// <summary>The first page of a folder's listing.</summary>
    public Uri Tree(HubReference reference, string commit, string folder, bool recursive) =>
        new($"{Api(reference)}/tree/{commit}{Escape(folder)}{(recursive ? "?recursive=true" : "")}");

    /// <exception cref="CorruptArtifactException">The listing names what cannot be a file of the repository.</exception>
    public async Task<Page> ListAsync(HubReference reference, string folder, Uri uri, CancellationToken cancel)
    {
        var (json, bytes, next) = await ReadJsonAsync(reference, folder, uri, cancel).ConfigureAwait(false);
        using (json)
        {
            return new Page(HubListing.Entries(reference, json.RootElement), bytes, next);
        }
    }

    /// <summary>Asks for a file's metadata; relative redirects (renamed repositories) are followed, others are the answer.</summary>
    public async Task<Head> HeadAsync(HubReference reference, string commit, string path, CancellationToken cancel)
    {
        var uri = Resolve(reference, commit, path);
        using var watch = new StallWatch(time, HeadLimit, cancel);
        using var response = await transport
            .SendAsync(HttpMethod.Head, uri, watch, followElsewhere: false)
            .ConfigureAwait(false);
        var asked = response.RequestMessage!.RequestUri!;
        bool redirects = HubTransport.TryLocation(response, asked, out _, out var location);
        if (!redirects && !response.IsSuccessStatusCode)
        {
            throw Refused(reference, path, response, asked);
        }
        string? size = Header(response, "X-Linked-Size");
        return new Head(
            Header(response, "X-Repo-Commit"),
            Bare(Header(response, "X-Linked-Etag") ?? Header(response, "ETag")),
                // The Content-Length of a redirect is that of its own body.
                size is null
                    ? (redirects ? null : response.Content.Headers.ContentLength)
                : long.TryParse(size, NumberStyles.None, CultureInfo.InvariantCulture, out long bytes) ? bytes
                : null,
            location
        );
    }

    /// <summary>Starts a file's body at byte <paramref name="from"/>. The caller disposes the response.</summary>
    /// <exception cref="HubTransientException">Among others: the signed address has expired; a new HEAD gives another.</exception>
    public async Task<HttpResponseMessage> OpenAsync(
        HubReference reference,
        string path,
        Uri location,
        long from,
        StallWatch watch
    )
    {
        var response = await transport.SendAsync(HttpMethod.Get, location, watch, from).ConfigureAwait(false);
        if (response.StatusCode is HttpStatusCode.OK or HttpStatusCode.PartialContent)
        {
            return response;
        }
        using (response)
        {
            throw Refused(reference, path, response, response.RequestMessage!.RequestUri!);
        }
    }

    /// <summary>The body of a response that has begun.</summary>
    public async Task<PacedBody> BodyAsync(HttpResponseMessage response, StallWatch watch) =>
        new(await watch.Guard(response.Content.ReadAsStreamAsync).ConfigureAwait(false), watch, options, time);

    /// <summary>The hash that the hub itself gives with a body; null from storage, whose ETags are hashes of other things.</summary>
    public string? BodyHash(HttpResponseMessage response) =>
        transport.IsHub(response.RequestMessage!.RequestUri!)
        && Bare(Header(response, "X-Linked-Etag") ?? Header(response, "ETag")) is { } etag
        && HubFile.IsHash(etag)
            ? etag
            : null;

    /// <summary>An ETag without its weakness mark and quotes.</summary>
    private static string? Bare(string? etag) =>
        etag is null ? null : (etag.StartsWith("W/", StringComparison.Ordinal) ? etag[2..] : etag).Trim('"');

    private static string? Header(HttpResponseMessage response, string name) =>
        response.Headers.NonValidated.TryGetValues(name, out var values) ? values.First() : null;

    private static string Escape(string path) =>
        path.Length == 0 ? "" : "/" + string.Join('/', path.Split('/').Select(Uri.EscapeDataString));

    private string Base => options.Endpoint.AbsoluteUri.TrimEnd('/');

    private string Api(HubReference reference) =>
        $"{Base}/api/{(reference.IsDataset ? "datasets" : "models")}/{reference.Id}";

    private Uri Resolve(HubReference reference, string commit, string path) =>
        new($"{Base}/{(reference.IsDataset ? "datasets/" : "")}{reference.Id}/resolve/{commit}{Escape(path)}");

    private Exception Refused(HubReference reference, string path, HttpResponseMessage response, Uri asked)
    {
        // Storage says 400, 403, 404 or 410 for a signature that has run out, and knows nothing of rights on the hub.
        if (!transport.IsHub(asked) && (int)response.StatusCode is >= 400 and < 500 and not (408 or 429))
        {
            return new HubTransientException($"{HubErrors.Status(response)} to a signed address", TimeSpan.Zero);
        }
        if (response.StatusCode == HttpStatusCode.RequestedRangeNotSatisfiable)
        {
            return new HubTransientException(HubErrors.Status(response));
        }
        bool hasToken = options.Token is not null;
        return HubErrors.For(reference, options.Endpoint, path, response, hasToken, time.GetUtcNow());
    }

    private async Task<(JsonDocument Json, long Bytes, Uri? Next)> ReadJsonAsync(
        HubReference reference,
        string path,
        Uri uri,
        CancellationToken cancel
    )
    {
        using var watch = new StallWatch(time, options.StallTimeout, cancel);
        using var response = await transport.SendAsync(HttpMethod.Get, uri, watch).ConfigureAwait(false);
        var asked = response.RequestMessage!.RequestUri!;
        if (response.StatusCode != HttpStatusCode.OK)
        {
            throw Refused(reference, path, response, asked);
        }
        using var body = await BodyAsync(response, watch).ConfigureAwait(false);
        using var text = new MemoryStream();
        byte[] buffer = new byte[1 << 16];
        for (int read; (read = await body.ReadAsync(buffer).ConfigureAwait(false)) > 0; )
        {
            text.Write(buffer, 0, read);
            if (text.Length > LongestAnswer)
            {
                throw new HubTransientException("an answer of more than 32 MiB");
            }
            body.RequirePace();
        }
        try
        {
            var json = JsonDocument.Parse(text.GetBuffer().AsMemory(0, (int)text.Length));
            return (json, text.Length, NextPage(response, asked));
        }
        catch (JsonException e)
        {
            throw new HubTransientException("an answer that is no JSON", inner: e);
        }
    }

    private Uri? NextPage(HttpResponseMessage response, Uri asked)
    {
        string links = string.Join(
            ',',
            response.Headers.NonValidated.TryGetValues("Link", out var all) ? all : default
        );
        var next = NextLink().Match(links);
        if (!next.Success)
        {
            return null;
        }
        return Uri.TryCreate(asked, next.Groups["uri"].Value, out var uri) && transport.IsHub(uri)
            ? uri
            : throw new HubTransientException("a listing that goes on at another server");
    }

    [GeneratedRegex("""<(?<uri>[^>]*)>\s*;\s*rel="?next"?""")]
    private static partial Regex NextLink();
}
