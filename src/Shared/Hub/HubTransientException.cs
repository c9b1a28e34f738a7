using System.Net.Sockets;

namespace Pipeline.Shared.Hub;

/// <summary>A failure of network or server that another try may mend. It never reaches a user: HubRetry words the last one.</summary>
/// <param name="message">What happened, as a clause; never with a query or a header, which may hold secrets.</param>
/// <param name="wait">How long the server asks to wait; null where it does not say.</param>
/// <param name="inner">The network's own error.</param>
internal sealed class HubTransientException(string message, TimeSpan? wait = null, Exception? inner = null)
    : Exception(message, inner)
{
    public TimeSpan? Wait => wait;

    /// <summary>The hub's name has no address, no network leads to it, or nothing answers: a machine without network, if it lasts.</summary>
    public bool IsNoWay =>
        InnerException is TimeoutException
        || InnerException is HttpRequestException e
            && (
                e.HttpRequestError == HttpRequestError.NameResolutionError
                || e.InnerException
                    is SocketException
                    {
                        SocketErrorCode: SocketError.NetworkUnreachable or SocketError.HostUnreachable
                    }
            );
}
