using System.Buffers;
using System.Globalization;
using System.Net.Http.Headers;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Hub;

/// <summary>
/// Brings one file into the cache: lock -> HEAD -> GET from where the partial file ends -> hash -> final name. The whole try,
/// body included, runs inside the retry pipeline: a handler below HttpClient would not see a body that breaks off.
/// </summary>
internal sealed class HubDownload(
    HubApi api,
    HubRetry retry,
    HubCache cache,
    HubReference reference,
    string commit,
    HubOptions options,
    TimeProvider time
)
{
    private const int ReadBytes = 1 << 17;
    private const int HashTries = 2;

    /// <param name="file">What to bring.</param>
    /// <param name="progress">Told of the bytes that are there.</param>
    /// <param name="cancel">Leaves the partial file for the next run.</param>
    /// <exception cref="CorruptArtifactException">What the hub sends does not have the file's hash, twice.</exception>
    /// <exception cref="StageFailedException">The hub cannot be reached, or contradicts itself, for all tries.</exception>
    /// <exception cref="ConfigurationException">The hub refuses: gated, private, or not there.</exception>
    public async Task FetchAsync(HubFile file, FetchProgress progress, CancellationToken cancel)
    {
        using var held = await cache
            .LockAsync(file.ETag, time, () => progress.Say($"{file.Path}: another process is fetching it"), cancel)
            .ConfigureAwait(false);
        if (cache.HasBlob(file)) // the process that held the lock has fetched it
        {
            progress.Set(file, file.Size);
            return;
        }
        using var partial = new PartialBlob(cache.Blob(file.ETag), file, cancel);
        for (int i = 0; i < HashTries; i++)
        {
            progress.Set(file, partial.Length);
            await retry
                .RunAsync(
                    $"{reference}: {file.Path}",
                    progress,
                    (attempts, inner) => TryAsync(file, partial, progress, attempts, inner),
                    cancel
                )
                .ConfigureAwait(false);
            if (Publish(file, partial))
            {
                return;
            }
        }
        partial.Delete();
        throw new CorruptArtifactException(
            new Fault(
                $"{reference}: {file.Path}",
                "twice a content with another hash",
                $"{(file.IsLfs ? "SHA-256" : "git hash")} {file.ETag}",
                "Look for what alters downloads on the way (a proxy, HF_ENDPOINT), then run again"
            ).ToString()
        );
    }

    /// <summary>One try: returns when the partial file is as long as the file.</summary>
    private async Task<bool> TryAsync(
        HubFile file,
        PartialBlob partial,
        FetchProgress progress,
        HubAttempts attempts,
        CancellationToken cancel
    )
    {
        attempts.Reached(partial.Length);
        if (partial.IsWhole) // empty, or its process was killed before it could check the hash
        {
            return true;
        }
        var head = await api.HeadAsync(reference, commit, file.Path, cancel).ConfigureAwait(false);
        Check("commit", head.Commit, commit, head.Commit is null);
        Check("ETag", head.ETag, file.ETag, head.ETag is null || !HubFile.IsHash(head.ETag));
        Check("size", $"{head.Size}", $"{file.Size}", head.Size is null);

        using var watch = new StallWatch(time, options.StallTimeout, cancel);
        using var response = await api.OpenAsync(reference, file.Path, head.Location, partial.Length, watch)
            .ConfigureAwait(false);
        string? hash = api.BodyHash(response);
        Check("ETag", hash, file.ETag, hash is null);
        Position(response, file, partial);
        await ReadBodyAsync(response, file, partial, progress, attempts, watch).ConfigureAwait(false);
        return true;
    }

    /// <summary>Makes sure that the body begins where the partial file ends, or the partial file where the body begins.</summary>
    private static void Position(HttpResponseMessage response, HubFile file, PartialBlob partial)
    {
        if (response.Content.Headers.ContentEncoding.Any(coding => coding != "identity"))
        {
            throw new HubTransientException("a compressed body, though none was asked for");
        }
        if (response.StatusCode == System.Net.HttpStatusCode.OK)
        {
            RequireFile(response.Content.Headers, file);
            if (partial.Length > 0) // the server knows no ranges, or the range no longer fits: this is the whole file
            {
                partial.Restart();
            }
            return;
        }
        var range = response.Content.Headers.ContentRange;
        if (range?.From != partial.Length || (range.Length is { } total && total != file.Size))
        {
            throw new HubTransientException(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"Content-Range '{range}' where bytes {partial.Length}-{file.Size - 1}/{file.Size} were asked for"
                )
            );
        }
    }

    /// <summary>
    /// Tells a page from the file: proxies, and networks with a sign-in page, answer with 200 what they have to say. Taken for the
    /// file's beginning, it would cost what had arrived, and all that comes after it when the hash does not fit.
    /// </summary>
    private static void RequireFile(HttpContentHeaders headers, HubFile file)
    {
        bool isPage =
            headers.ContentType?.MediaType == "text/html"
            && !Path.GetExtension(file.Path).StartsWith(".htm", StringComparison.OrdinalIgnoreCase);
        if (headers.ContentLength is { } length ? length != file.Size : isPage)
        {
            string kind = isPage ? "a web page" : "a body";
            string size = headers.ContentLength is { } bytes ? $" of {bytes} bytes" : "";
            throw new HubTransientException($"{kind}{size} where the file's {file.Size} bytes were asked for");
        }
    }

    private async Task ReadBodyAsync(
        HttpResponseMessage response,
        HubFile file,
        PartialBlob partial,
        FetchProgress progress,
        HubAttempts attempts,
        StallWatch watch
    )
    {
        using var body = await api.BodyAsync(response, watch).ConfigureAwait(false);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(ReadBytes);
        try
        {
            for (int read; (read = await body.ReadAsync(buffer).ConfigureAwait(false)) > 0; )
            {
                if (read > file.Size - partial.Length)
                {
                    partial.Restart(); // which of its bytes are the file's, nobody knows
                    progress.Set(file, 0);
                    throw new HubTransientException($"a body longer than the file's {file.Size} bytes");
                }
                Append(buffer.AsSpan(0, read), file, partial);
                attempts.Reached(partial.Length);
                progress.Set(file, partial.Length);
                if (!partial.IsWhole)
                {
                    body.RequirePace();
                }
            }
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(buffer);
        }
        if (!partial.IsWhole)
        {
            throw new HubTransientException($"the body ended after {partial.Length} of {file.Size} bytes");
        }
    }

    private static void Append(ReadOnlySpan<byte> bytes, HubFile file, PartialBlob partial)
    {
        try
        {
            partial.Append(bytes);
        }
        catch (IOException e) when (DiskFull.Is(e))
        {
            throw HubErrors.NoSpace(partial.FinalPath, file.Size - partial.Length, e);
        }
    }

    private static bool Publish(HubFile file, PartialBlob partial)
    {
        try
        {
            return partial.TryPublish();
        }
        catch (IOException e) when (DiskFull.Is(e)) // some file systems tell only when flushed
        {
            throw HubErrors.NoSpace(partial.FinalPath, file.Size, e);
        }
    }

    private static void Check(string what, string? found, string expected, bool isUntold)
    {
        if (!isUntold && found != expected)
        {
            throw new HubTransientException(
                $"the hub contradicts itself: {what} '{Configuration.Spelling.Shown(found ?? "")}', listed as '{expected}'"
            );
        }
    }
}
