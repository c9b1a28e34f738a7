namespace Pipeline.Shared.Hub;

/// <summary>
/// Fetches files of the Hugging Face hub into the cache it shares with huggingface_hub:
/// revision -> commit -> listing -> what the cache lacks, in parallel -> links in the snapshot.
/// </summary>
public sealed class HubClient : IDisposable
{
    private readonly HubOptions options;
    private readonly TimeProvider time;
    private readonly HttpMessageHandler handler;
    private readonly HubTransport transport;
    private readonly HubRetry retry;
    private readonly HubApi api;

    /// <param name="options">Endpoint, cache, token and limits.</param>
    /// <param name="handler">Reaches the network without following redirects; null for the usual one. It is disposed.</param>
    /// <param name="time">Paces back-offs and watches for stalls; null for the system's.</param>
    public HubClient(HubOptions options, HttpMessageHandler? handler = null, TimeProvider? time = null)
    {
        ArgumentNullException.ThrowIfNull(options);
        this.options = options;
        this.time = time ?? TimeProvider.System;
        this.handler = handler ?? HubTransport.CreateHandler();
        transport = new HubTransport(options, this.handler);
        retry = new HubRetry(options, this.time);
        api = new HubApi(options, transport, this.time);
    }

    /// <summary>Fetches what <paramref name="reference"/> asks for and the cache lacks.</summary>
    /// <param name="reference">What to fetch.</param>
    /// <param name="progress">Told of bytes and of waits.</param>
    /// <param name="cancel">Stops; what arrived is taken up by the next call.</param>
    /// <exception cref="ConfigurationException">Not there, private or gated; the message says what to do.</exception>
    /// <exception cref="StageFailedException">No network, no disk space, or offline with something missing.</exception>
    /// <exception cref="CorruptArtifactException">What the hub sends is not what it lists.</exception>
    public async Task<HubSnapshot> FetchAsync(
        HubReference reference,
        IProgressSink progress,
        CancellationToken cancel = default
    )
    {
        ArgumentNullException.ThrowIfNull(reference);
        var cache = new HubCache(options.CacheFolder, reference);
        try
        {
            string commit = await CommitAsync(reference, cache, progress, cancel).ConfigureAwait(false);
            if (Cached(reference, cache, commit, progress) is { } cached)
            {
                return cached;
            }
            var files = cache.ReadListing(commit);
            if (files is null)
            {
                files = await new HubListing(api, retry, options)
                    .WantedAsync(reference, commit, progress, cancel)
                    .ConfigureAwait(false);
                cache.WriteListing(commit, files);
            }
            await FetchAsync(reference, cache, commit, files, progress, cancel).ConfigureAwait(false);
            return Describe(reference, cache, commit, [.. files.Select(file => file.Path)]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw CacheFailed(e);
        }
    }

    public void Dispose()
    {
        transport.Dispose();
        handler.Dispose();
    }

    private async Task<string> CommitAsync(
        HubReference reference,
        HubCache cache,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        if (reference.IsCommit)
        {
            return reference.Revision;
        }
        if (options.Offline)
        {
            return cache.ReadRef()
                ?? throw HubErrors.Offline(reference, options.CacheFolder, $"revision '{reference.Revision}'");
        }
        string commit = await retry
            .RunAsync($"{reference}", progress, (_, inner) => api.CommitAsync(reference, inner), cancel)
            .ConfigureAwait(false);
        cache.WriteRef(commit);
        return commit;
    }

    /// <summary>What the cache has, if that is all there is to have; null where the hub must be asked.</summary>
    /// <exception cref="StageFailedException">Offline, and something is missing.</exception>
    private HubSnapshot? Cached(HubReference reference, HubCache cache, string commit, IProgressSink progress)
    {
        if (cache.ReadListing(commit) is { } listed)
        {
            var missing = listed.FirstOrDefault(file => !cache.Has(commit, file));
            return missing is null ? Describe(reference, cache, commit, [.. listed.Select(file => file.Path)])
                : options.Offline ? throw HubErrors.Offline(reference, options.CacheFolder, missing.Path)
                : null;
        }
        // No listing: huggingface_hub may have put the files there. One file, or a model, shows by itself whether it is all.
        string[] present = Present(cache.Snapshot(commit), reference);
        bool isFile = reference.Path is { } path && !reference.IsGlob && present is [var only] && only == path;
        bool isModel = reference.Path is null && !reference.IsDataset;
        string? lacks =
            present.Length == 0 ? "file of it"
            : isModel ? ModelFiles.Lacks(cache.Snapshot(commit))
            : null;
        if (options.Offline && lacks is not null)
        {
            throw HubErrors.Offline(reference, options.CacheFolder, lacks);
        }
        bool isKnownWhole = lacks is null && (isFile || isModel);
        if (options.Offline && !isKnownWhole)
        {
            progress.Say(
                $"{reference}: HF_HUB_OFFLINE is set and the cache has no listing: its {present.Length} files are taken for all"
            );
        }
        return isKnownWhole || options.Offline ? Describe(reference, cache, commit, present) : null;
    }

    private async Task FetchAsync(
        HubReference reference,
        HubCache cache,
        string commit,
        IReadOnlyList<HubFile> files,
        IProgressSink sink,
        CancellationToken cancel
    )
    {
        HubFile[] missing = [.. files.Where(file => !cache.Has(commit, file))];
        var progress = new FetchProgress(sink, $"fetch {reference.Id}", missing);
        var download = new HubDownload(api, retry, cache, reference, commit, options, time);
        // Files of equal content are one blob, and one download.
        await Parallel
            .ForEachAsync(
                missing.GroupBy(file => file.ETag),
                new ParallelOptions { MaxDegreeOfParallelism = options.ParallelFiles, CancellationToken = cancel },
                async (same, inner) =>
                {
                    if (!cache.HasBlob(same.First()))
                    {
                        await download.FetchAsync(same.First(), progress, inner).ConfigureAwait(false);
                    }
                    foreach (var file in same)
                    {
                        cache.Link(commit, file);
                        progress.Set(file, file.Size);
                    }
                }
            )
            .ConfigureAwait(false);
    }

    private static HubSnapshot Describe(HubReference reference, HubCache cache, string commit, string[] paths)
    {
        string folder = reference.LiteralFolder;
        string path =
            reference.Path is not null && paths is [var only] && (reference.IsGlob || only == reference.Path)
                ? cache.SnapshotPath(commit, only)
            : folder.Length > 0 ? cache.SnapshotPath(commit, folder)
            : cache.Snapshot(commit);
        return new HubSnapshot(commit, path, [.. paths.Select(name => cache.SnapshotPath(commit, name))]);
    }

    /// <summary>Names of the wanted files that a snapshot holds; a link to a blob that is gone does not count.</summary>
    private static string[] Present(string snapshot, HubReference reference) =>
        Directory.Exists(snapshot)
            ?
            [
                .. Directory
                    .EnumerateFiles(snapshot, "*", SearchOption.AllDirectories)
                    .Where(File.Exists)
                    .Select(file => Path.GetRelativePath(snapshot, file).Replace('\\', '/'))
                    .Where(reference.Matches)
                    .Order(StringComparer.Ordinal),
            ]
            : [];

    private StageFailedException CacheFailed(Exception e) =>
        new(
            new Fault(
                options.CacheFolder,
                e.Message,
                "a cache folder that can be read and written",
                "Check its rights and its disk, or set HF_HUB_CACHE to another folder"
            ).ToString(),
            e
        );
}
