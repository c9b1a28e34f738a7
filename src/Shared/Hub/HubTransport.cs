using System.Net;
using System.Net.Http.Headers;

namespace Pipeline.Shared.Hub;

/// <summary>
/// Sends single requests: redirects are followed here, one by one, so that the token is decided anew for every address. It
/// goes to the endpoint's own scheme, host and port, and nowhere else.
/// </summary>
internal sealed class HubTransport : IDisposable
{
    private const int MostRedirects = 5;

    private readonly HubOptions options;
    private readonly HttpClient client;

    /// <param name="options">Endpoint and token.</param>
    /// <param name="handler">Reaches the network; it must not follow redirects. Stays the caller's.</param>
    public HubTransport(HubOptions options, HttpMessageHandler handler)
    {
        this.options = options;
        client = new HttpClient(handler, disposeHandler: false) { Timeout = Timeout.InfiniteTimeSpan };
    }

    /// <summary>A handler as this class needs it.</summary>
    public static HttpMessageHandler CreateHandler() =>
        new SocketsHttpHandler
        {
            AllowAutoRedirect = false,
            UseCookies = false,
            AutomaticDecompression = DecompressionMethods.None,
            ConnectTimeout = TimeSpan.FromSeconds(10),
            PooledConnectionLifetime = TimeSpan.FromMinutes(5), // the CDN moves between addresses
        };

    /// <summary>The response, whatever its status; its body is unread.</summary>
    /// <param name="method">HEAD or GET.</param>
    /// <param name="uri">Where to start.</param>
    /// <param name="watch">Guards the waiting.</param>
    /// <param name="from">The first byte wanted, when not 0.</param>
    /// <param name="followElsewhere">Follow absolute redirects too; without, the redirect itself is the response.</param>
    /// <exception cref="HubTransientException">The network failed, or a redirect makes no sense.</exception>
    public async Task<HttpResponseMessage> SendAsync(
        HttpMethod method,
        Uri uri,
        StallWatch watch,
        long from = 0,
        bool followElsewhere = true
    )
    {
        for (int hop = 0; hop <= MostRedirects; hop++)
        {
            using var request = new HttpRequestMessage(method, uri);
            request.Headers.UserAgent.ParseAdd("sae-pipeline");
            // A compressed body has another length than the file, and ranges would count its bytes.
            request.Headers.AcceptEncoding.ParseAdd("identity");
            if (from > 0)
            {
                request.Headers.Range = new RangeHeaderValue(from, null);
            }
            if (options.Token is not null && IsHub(uri))
            {
                request.Headers.Authorization = new AuthenticationHeaderValue("Bearer", options.Token);
            }
            var response = await watch
                .Guard(token => client.SendAsync(request, HttpCompletionOption.ResponseHeadersRead, token))
                .ConfigureAwait(false);
            if (!TryLocation(response, uri, out bool isElsewhere, out var target) || (isElsewhere && !followElsewhere))
            {
                return response;
            }
            response.Dispose();
            uri = target;
        }
        throw new HubTransientException($"more than {MostRedirects} redirects");
    }

    /// <summary>The endpoint's own scheme, host and port.</summary>
    public bool IsHub(Uri uri) =>
        Uri.Compare(
            uri,
            options.Endpoint,
            UriComponents.SchemeAndServer,
            UriFormat.SafeUnescaped,
            StringComparison.OrdinalIgnoreCase
        ) == 0;

    /// <summary>Where a redirect leads; false for any other response.</summary>
    /// <param name="response">Any response.</param>
    /// <param name="uri">Its address.</param>
    /// <param name="isElsewhere">The redirect names a server, even if it is the same one.</param>
    /// <param name="target">The absolute address.</param>
    /// <exception cref="HubTransientException">A redirect to nowhere, or one that gives up encryption.</exception>
    public static bool TryLocation(HttpResponseMessage response, Uri uri, out bool isElsewhere, out Uri target)
    {
        (isElsewhere, target) = (false, uri);
        if ((int)response.StatusCode is not (301 or 302 or 303 or 307 or 308))
        {
            return false;
        }
        // The raw text: Uri takes "/path" for a file's absolute address on Unix.
        string location = response.Headers.NonValidated.TryGetValues("Location", out var values) ? values.First() : "";
        isElsewhere =
            location.StartsWith("//", StringComparison.Ordinal)
            || location.Contains("://", StringComparison.Ordinal) && !location.StartsWith('/');
        if (
            location.Length == 0
            || !Uri.TryCreate(uri, location, out var found)
            || found.Scheme is not ("http" or "https")
            || (uri.Scheme == "https" && found.Scheme != "https")
        )
        {
            throw new HubTransientException("a redirect to no usable address");
        }
        target = found;
        return true;
    }

    public void Dispose() => client.Dispose();
}
