using Pipeline.Shared.Artifacts;

namespace Pipeline.Tests.Pipelines;

/// <summary>What a run leaves, for comparison with another.</summary>
internal static class ArtifactHashes
{
    /// <summary>
    /// SHA-256 of every artifact that is not about time or place: manifests and run.json hold wall times, the report shows
    /// them, and names that begin with a dot are working files.
    /// </summary>
    public static SortedDictionary<string, string> Of(string folder)
    {
        var hashes = new SortedDictionary<string, string>(StringComparer.Ordinal);
        foreach (string file in Directory.EnumerateFiles(folder, "*", SearchOption.AllDirectories))
        {
            string name = Path.GetRelativePath(folder, file).Replace('\\', '/');
            bool working = name.Split('/').Any(part => part.StartsWith('.'));
            if (
                !working
                && name != "report/index.html"
                && Path.GetFileName(name) is not ("manifest.json" or "run.json")
            )
            {
                hashes[name] = AtomicFile.Digest(file).Sha256;
            }
        }
        return hashes;
    }
}
