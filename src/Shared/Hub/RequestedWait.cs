using System.Globalization;
using System.Net.Http.Headers;
using System.Text.RegularExpressions;

namespace Pipeline.Shared.Hub;

/// <summary>How long a refusing server asks to wait.</summary>
internal static partial class RequestedWait
{
    /// <summary><c>RateLimit: "api";r=0;t=55</c>, else Retry-After in seconds or as an HTTP date; null for neither.</summary>
    public static TimeSpan? In(HttpResponseHeaders headers, DateTimeOffset now)
    {
        if (headers.NonValidated.TryGetValues("RateLimit", out var limits))
        {
            foreach (string limit in limits)
            {
                var match = Exhausted().Match(limit);
                if (match.Success)
                {
                    return TimeSpan.FromSeconds(int.Parse(match.Groups["t"].ValueSpan, CultureInfo.InvariantCulture));
                }
            }
        }
        if (headers.RetryAfter is not { } retry)
        {
            return null;
        }
        var wait = retry.Delta ?? (retry.Date - now);
        return wait < TimeSpan.Zero ? TimeSpan.Zero : wait;
    }

    [GeneratedRegex(@";\s*r=0\s*;\s*t=(?<t>\d{1,6})\b")]
    private static partial Regex Exhausted();
}
