using System.Text.Json;
using System.Text.Json.Nodes;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Hub;

/// <summary>Finds the files a reference asks for among those of a commit.</summary>
internal sealed class HubListing(HubApi api, HubRetry retry, HubOptions options)
{
    private const int MostPages = 10_000;

    /// <summary>The wanted files, by path. A commit's never change.</summary>
    /// <exception cref="ConfigurationException">There are none, or more than memory is given for.</exception>
    /// <exception cref="CorruptArtifactException">The listing names what cannot be a file of the repository.</exception>
    public async Task<IReadOnlyList<HubFile>> WantedAsync(
        HubReference reference,
        string commit,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        string folder = reference.LiteralFolder;
        if (reference.Path is { } path && !reference.IsGlob)
        {
            // The folder above says whether the path is a file or a folder, without listing the rest of the repository.
            int slash = path.LastIndexOf('/');
            string parent = slash < 0 ? "" : path[..slash];
            var entries = await ListAsync(reference, commit, parent, recursive: false, progress, cancel)
                .ConfigureAwait(false);
            var entry =
                entries.FirstOrDefault(e => e.Path == path)
                ?? throw HubErrors.Missing(reference, options.Endpoint, path);
            if (entry.File is { } file)
            {
                return [file];
            }
            folder = path;
        }
        if (reference.Path is null && reference.IsDataset)
        {
            await RequireOneConfigurationAsync(reference, commit, progress, cancel).ConfigureAwait(false);
        }
        bool recursive = reference.Path is not null || reference.IsDataset; // a model's files lie at its root
        var all = await ListAsync(reference, commit, folder, recursive, progress, cancel).ConfigureAwait(false);
        bool isOldModel =
            reference.Path is null
            && !reference.IsDataset
            && !all.Exists(entry => entry.File is { } file && ModelFiles.IsSafetensors(file.Path));
        HubFile[] wanted =
        [
            .. all.Select(entry => entry.File)
                .OfType<HubFile>()
                .Where(file => reference.Matches(file.Path) || (isOldModel && ModelFiles.IsStateDict(file.Path)))
                .DistinctBy(file => file.Path)
                .OrderBy(file => file.Path, StringComparer.Ordinal),
        ];
        return wanted.Length > 0 ? wanted : throw HubErrors.Missing(reference, options.Endpoint, reference.Path ?? "");
    }

    /// <summary>Folders at the root are configurations, such as languages: all of them are seldom meant, and may be terabytes.</summary>
    private async Task RequireOneConfigurationAsync(
        HubReference reference,
        string commit,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        var root = await ListAsync(reference, commit, "", recursive: false, progress, cancel).ConfigureAwait(false);
        string[] folders =
        [
            .. root.Where(entry => entry.File is null).Select(entry => entry.Path).Order(StringComparer.Ordinal),
        ];
        if (folders.Length > 1)
        {
            throw HubErrors.SeveralConfigurations(reference, folders);
        }
    }

    /// <summary>Reads one page of a listing.</summary>
    /// <exception cref="CorruptArtifactException">A name, size or hash that no file of a repository has.</exception>
    public static IReadOnlyList<HubApi.Entry> Entries(HubReference reference, JsonElement page)
    {
        try
        {
            return [.. page.EnumerateArray().Select(entry => Entry(reference, entry))];
        }
        catch (Exception e) when (e is InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new HubTransientException("a listing of unknown form", inner: e);
        }
    }

    /// <summary>A listing as the cache keeps it.</summary>
    public static string ToJson(IReadOnlyList<HubFile> files) =>
        new JsonArray([
            .. files.Select(file => new JsonObject
            {
                ["path"] = file.Path,
                ["size"] = file.Size,
                ["etag"] = file.ETag,
            }),
        ]).ToJsonString();

    /// <summary>Reads <see cref="ToJson"/> back; null where the text is no such listing.</summary>
    public static IReadOnlyList<HubFile>? FromJson(string text)
    {
        try
        {
            using var json = JsonDocument.Parse(text);
            HubFile[] files =
            [
                .. json
                    .RootElement.EnumerateArray()
                    .Select(entry => new HubFile(
                        entry.GetProperty("path").GetString() ?? "",
                        entry.GetProperty("size").GetInt64(),
                        entry.GetProperty("etag").GetString() ?? ""
                    )),
            ];
            return files.Length > 0 && files.All(file => file.IsSound) ? files : null;
        }
        catch (Exception e)
            when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            return null;
        }
    }

    private async Task<List<HubApi.Entry>> ListAsync(
        HubReference reference,
        string commit,
        string folder,
        bool recursive,
        IProgressSink progress,
        CancellationToken cancel
    )
    {
        var entries = new List<HubApi.Entry>();
        long bytes = 0;
        Uri? next = api.Tree(reference, commit, folder, recursive);
        for (int pages = 0; next is not null; pages++)
        {
            if (pages == MostPages)
            {
                throw Unsound(reference, $"a listing of more than {MostPages} pages", "one that ends");
            }
            var uri = next;
            var page = await retry
                .RunAsync($"{reference}", progress, (_, inner) => api.ListAsync(reference, folder, uri, inner), cancel)
                .ConfigureAwait(false);
            bytes += page.Bytes;
            entries.AddRange(page.Entries);
            if (entries.Count > options.MostListed || bytes > options.MostListedBytes)
            {
                throw HubErrors.TooMuchListed(reference, folder, entries.Count, bytes, options);
            }
            next = page.Next;
        }
        return entries;
    }

    private static HubApi.Entry Entry(HubReference reference, JsonElement entry)
    {
        string path = entry.GetProperty("path").GetString() ?? "";
        if (!HubReference.IsSafeName(path))
        {
            throw Unsound(
                reference,
                $"'{Spelling.Shown(path)}' in the repository's listing",
                "names that stay inside the repository"
            );
        }
        if (entry.GetProperty("type").GetString() != "file")
        {
            return new HubApi.Entry(path, null);
        }
        bool isLfs = entry.TryGetProperty("lfs", out var lfs) && lfs.ValueKind == JsonValueKind.Object;
        string oid = (isLfs ? lfs : entry).GetProperty("oid").GetString() ?? "";
        var file = new HubFile(
            path,
            entry.GetProperty("size").GetInt64(),
            oid.StartsWith("sha256:", StringComparison.Ordinal) ? oid["sha256:".Length..] : oid
        );
        return file.IsSound
            ? new HubApi.Entry(path, file)
            : throw Unsound(
                reference,
                $"size {file.Size} and hash '{Spelling.Shown(file.ETag)}' for {Spelling.Shown(path)}",
                "a size and a SHA-256 or git hash"
            );
    }

    private static CorruptArtifactException Unsound(HubReference reference, string found, string expected) =>
        new(new Fault($"{reference}", found, expected, "Do not use this repository; tell its owner").ToString());
}
