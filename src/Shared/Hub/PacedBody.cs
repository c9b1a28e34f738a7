using System.Globalization;

namespace Pipeline.Shared.Hub;

/// <summary>
/// A response's body that must come on: <see cref="StallWatch"/> ends a silence, and this one that drips. Only the waiting
/// for the network counts, so that no slow disk passes for a slow server.
/// </summary>
internal sealed class PacedBody(Stream body, StallWatch watch, HubOptions options, TimeProvider time) : IDisposable
{
    private TimeSpan waited; // in the window under way
    private long came;

    /// <summary>The next bytes; 0 at the body's end.</summary>
    /// <exception cref="HubTransientException">As <see cref="StallWatch.Guard"/>.</exception>
    public async Task<int> ReadAsync(Memory<byte> buffer)
    {
        long began = time.GetTimestamp();
        int read = await watch.Guard(token => body.ReadAsync(buffer, token).AsTask()).ConfigureAwait(false);
        waited += time.GetElapsedTime(began);
        came += read;
        return read;
    }

    /// <summary>Asked when the bytes of a read are safe, so that giving up loses none.</summary>
    /// <exception cref="HubTransientException">A window has passed with too few bytes.</exception>
    public void RequirePace()
    {
        if (waited < options.SlowWindow)
        {
            return;
        }
        if (came < options.SlowBytes)
        {
            throw new HubTransientException(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"only {came} bytes came in {waited.TotalSeconds:0} s, fewer than {options.SlowBytes} in {options.SlowWindow.TotalSeconds:0} s"
                )
            );
        }
        (waited, came) = (TimeSpan.Zero, 0);
    }

    public void Dispose() => body.Dispose();
}
