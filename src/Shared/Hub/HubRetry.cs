using System.Globalization;
using Polly;
using Polly.Retry;

namespace Pipeline.Shared.Hub;

/// <summary>
/// The one retry policy of the hub client: 408, 429, 5xx, broken connections, stalls and answers that contradict each
/// other are tried again after the wait the server asks for, else after an exponentially growing one with jitter. Tries
/// are bounded by progress: <see cref="HubOptions.Tries"/> in a row without a MiB more than ever before end it, and two
/// where there is no network at all.
/// </summary>
internal sealed class HubRetry
{
    private static readonly TimeSpan FirstWait = TimeSpan.FromSeconds(2);
    private static readonly TimeSpan LongestWait = TimeSpan.FromMinutes(1);

    /// <summary>The hub's rate limits renew within 5 minutes; a server that asks for more is answered by giving up.</summary>
    private static readonly TimeSpan LongestRequestedWait = TimeSpan.FromMinutes(15);

    private static readonly ResiliencePropertyKey<HubAttempts> Attempts = new("hub.attempts");

    /// <summary>A machine without network should say so in seconds; one whose network fails later is worth more.</summary>
    private const int TriesWithoutNetwork = 2;

    private readonly ResiliencePipeline pipeline;
    private readonly HubOptions options;
    private readonly Xoshiro256 jitter;

    /// <summary>Something was heard from the hub.</summary>
    private volatile bool isReached;

    public HubRetry(HubOptions options, TimeProvider time)
    {
        this.options = options;
        jitter = new Xoshiro256(options.JitterSeed, "hub", "back-off");
        pipeline = new ResiliencePipelineBuilder { TimeProvider = time }
            .AddRetry(
                new RetryStrategyOptions
                {
                    MaxRetryAttempts = int.MaxValue, // HubAttempts bounds them, by progress
                    ShouldHandle = retry =>
                        ValueTask.FromResult(
                            retry.Outcome.Exception is HubTransientException e
                                && !(e.Wait > LongestRequestedWait)
                                && Of(retry.Context)
                                    .MayTryAgain(isReached || !e.IsNoWay ? int.MaxValue : TriesWithoutNetwork)
                        ),
                    DelayGenerator = retry =>
                        ValueTask.FromResult<TimeSpan?>(
                            ((HubTransientException)retry.Outcome.Exception!).Wait
                                ?? Backoff(Of(retry.Context).Failures)
                        ),
                    OnRetry = retry =>
                    {
                        Of(retry.Context).Say(retry.Outcome.Exception!, retry.RetryDelay);
                        return default;
                    },
                }
            )
            .Build();
    }

    /// <param name="what">What is fetched, for messages.</param>
    /// <param name="progress">Hears of each wait.</param>
    /// <param name="work">One try; it tells <see cref="HubAttempts.Reached"/> how far it came.</param>
    /// <param name="cancel">Ends waits too.</param>
    /// <exception cref="StageFailedException">The tries are used up.</exception>
    public async Task<T> RunAsync<T>(
        string what,
        IProgressSink progress,
        Func<HubAttempts, CancellationToken, Task<T>> work,
        CancellationToken cancel
    )
    {
        var attempts = new HubAttempts(what, options.Tries, progress);
        var context = ResilienceContextPool.Shared.Get(cancel);
        context.Properties.Set(Attempts, attempts);
        try
        {
            return await pipeline
                .ExecuteAsync(
                    async inner =>
                    {
                        var result = await work(Of(inner), inner.CancellationToken).ConfigureAwait(false);
                        isReached = true;
                        return result;
                    },
                    context
                )
                .ConfigureAwait(false);
        }
        catch (HubTransientException e)
        {
            throw e.IsNoWay && !isReached ? NoWay(what, e) : GaveUp(what, attempts, e);
        }
        finally
        {
            ResilienceContextPool.Shared.Return(context);
        }
    }

    private static StageFailedException GaveUp(string what, HubAttempts attempts, HubTransientException e)
    {
        string tried =
            e.Wait > LongestRequestedWait
                ? string.Create(
                    CultureInfo.InvariantCulture,
                    $"the server asks to wait {e.Wait.Value.TotalMinutes:0} min"
                )
                : string.Create(CultureInfo.InvariantCulture, $"{attempts.Failures} tries in a row without progress");
        return new StageFailedException(
            new Fault(
                what,
                $"{e.Message}; {tried}",
                "an answer from the hub",
                "Run again later: what was fetched is kept and taken up. HF_HUB_OFFLINE=1 uses the cache alone"
            ).ToString(),
            e
        );
    }

    private StageFailedException NoWay(string what, HubTransientException e) =>
        new(
            new Fault(
                what,
                $"no way to {options.Endpoint.Host} ({e.InnerException!.Message})",
                $"a network, or a commit of which all is in {options.CacheFolder}",
                "Fetch it where there is a network (sae fetch NAME) and copy that cache here, or name a local folder or file in "
                    + "its place (--set model=FOLDER, --set text=PATH). HF_HUB_OFFLINE=1 uses what the cache has, HF_ENDPOINT names a "
                    + "mirror, HF_HUB_CACHE another cache"
            ).ToString(),
            e
        );

    private static HubAttempts Of(ResilienceContext context) => context.Properties.GetValue(Attempts, null!);

    /// <summary>2 s, 4 s, 8 s, ... at most a minute, of which half is certain and half random.</summary>
    private TimeSpan Backoff(int failures)
    {
        var wait = FirstWait * Math.Pow(2, Math.Min(failures, 16) - 1);
        lock (jitter) // files are fetched in parallel
        {
            return (wait < LongestWait ? wait : LongestWait) * (0.5 + 0.5 * jitter.NextDouble());
        }
    }
}
