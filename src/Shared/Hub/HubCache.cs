using System.Security.Cryptography;
using System.Text;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Shared.Hub;

/// <summary>
/// One repository in huggingface_hub's cache, as that library lays it out and locks it, so that both use each other's files:
/// <code>
/// models--org--name/refs/REVISION            a commit hash
/// models--org--name/blobs/ETAG               content; ETAG.incomplete while it arrives
/// models--org--name/snapshots/COMMIT/PATH -> ../../blobs/ETAG
/// models--org--name/.listings/COMMIT/KEY     which files a reference asks for; ours, the library passes over it
/// .locks/models--org--name/ETAG.lock
/// </code>
/// </summary>
internal sealed class HubCache
{
    private static readonly TimeSpan LockPoll = TimeSpan.FromMilliseconds(100);

    private readonly HubReference reference;
    private readonly string repository;
    private readonly string locks;

    public HubCache(string cacheFolder, HubReference reference)
    {
        this.reference = reference;
        string name = $"{(reference.IsDataset ? "datasets" : "models")}--{reference.Organization}--{reference.Name}";
        repository = Path.Combine(cacheFolder, name);
        locks = Path.Combine(cacheFolder, ".locks", name);
    }

    public string Snapshot(string commit) => Path.Combine(repository, "snapshots", commit);

    public string SnapshotPath(string commit, string path) => Inside(Snapshot(commit), path);

    public string Blob(string etag) => Path.Combine(repository, "blobs", etag);

    /// <summary>The commit the revision stood for when it was last asked for; null where it never was.</summary>
    public string? ReadRef() =>
        ReadText(Inside(Path.Combine(repository, "refs"), reference.Revision))?.Trim() is { } commit
        && HubReference.IsGitHash(commit)
            ? commit
            : null;

    public void WriteRef(string commit)
    {
        if (ReadRef() != commit)
        {
            AtomicFile.WriteText(Inside(Path.Combine(repository, "refs"), reference.Revision), commit);
        }
    }

    /// <summary>The files that the reference asks for at a commit, if they were listed before.</summary>
    public IReadOnlyList<HubFile>? ReadListing(string commit) =>
        ReadText(ListingPath(commit)) is { } text ? HubListing.FromJson(text) : null;

    public void WriteListing(string commit, IReadOnlyList<HubFile> files) =>
        AtomicFile.WriteText(ListingPath(commit), HubListing.ToJson(files));

    /// <summary>
    /// The blob is there. Its hash is not taken again: our own was checked before it got its name, and huggingface_hub's is
    /// taken on its word, as that library takes it.
    /// </summary>
    public bool HasBlob(HubFile file) =>
        new FileInfo(Blob(file.ETag)) is { Exists: true } blob && blob.Length == file.Size;

    /// <summary>The file is in the snapshot, as a link to its blob or, from systems without links, as itself.</summary>
    public bool Has(string commit, HubFile file)
    {
        var entry = new FileInfo(SnapshotPath(commit, file.Path));
        return entry.LinkTarget is { } target
            ? Path.GetFileName(target) == file.ETag && HasBlob(file)
            : entry.Exists && entry.Length == file.Size;
    }

    /// <summary>Shows a blob in a snapshot under its name in the repository.</summary>
    public void Link(string commit, HubFile file)
    {
        string link = SnapshotPath(commit, file.Path);
        string folder = Path.GetDirectoryName(link)!;
        FolderSync.Create(folder);
        // A name of its own first: several processes may link the same file, and an old link may be broken.
        string temporary = Path.Combine(folder, $".{Path.GetFileName(link)}.tmp-{Guid.NewGuid():N}");
        File.CreateSymbolicLink(temporary, Path.GetRelativePath(folder, Blob(file.ETag)));
#pragma warning disable RS0030 // Publishes a link, which has no content to flush.
        File.Move(temporary, link, overwrite: true);
#pragma warning restore RS0030
        FolderSync.Flush(folder);
    }

    /// <summary>
    /// Waits for the blob's lock. It is flock's, as huggingface_hub's on Unix, and goes with its process; the file stays.
    /// </summary>
    /// <param name="etag">The blob.</param>
    /// <param name="time">Paces the tries.</param>
    /// <param name="waiting">Called once when another process holds it.</param>
    /// <param name="cancel">Ends the waiting.</param>
    public async Task<IDisposable> LockAsync(string etag, TimeProvider time, Action waiting, CancellationToken cancel)
    {
        FolderSync.Create(Path.GetDirectoryName(Blob(etag))!);
        FolderSync.Create(locks);
        for (bool told = false; ; told = true)
        {
            try
            {
                return new FileStream(
                    Path.Combine(locks, $"{etag}.lock"),
                    FileMode.OpenOrCreate,
                    FileAccess.ReadWrite,
                    FileShare.None,
                    bufferSize: 0
                );
            }
            catch (IOException e) when (IsHeld(e))
            {
                if (!told)
                {
                    waiting();
                }
            }
            await Task.Delay(LockPoll, time, cancel).ConfigureAwait(false);
        }
    }

    // EWOULDBLOCK on Linux and macOS; ERROR_SHARING_VIOLATION.
    private static bool IsHeld(IOException e) => e.HResult is 11 or 35 or unchecked((int)0x80070020);

    private string ListingPath(string commit)
    {
        string path = reference.Path ?? "";
        string key = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(path)))[..16];
        return Path.Combine(repository, ".listings", commit, key + ".json");
    }

    private static string? ReadText(string path)
    {
        try
        {
            return File.ReadAllText(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            return null;
        }
    }

    private static string Inside(string folder, string name) =>
        HubReference.IsSafeName(name) && ArtifactPath.TryResolve(folder, name, out string? path)
            ? path
            : throw new ArgumentException("The name leaves its folder.", nameof(name)); // every name was checked before
}
