using System.Text.RegularExpressions;

namespace Pipeline.Shared.Hub;

/// <summary>A file of a repository at a commit.</summary>
/// <param name="Path">Its name in the repository, with <c>/</c> between folders.</param>
/// <param name="Size">Bytes.</param>
/// <param name="ETag">Its content's hash: SHA-256 (64 digits) for an LFS file, git's blob SHA-1 (40 digits) otherwise.</param>
internal sealed partial record HubFile(string Path, long Size, string ETag)
{
    public bool IsLfs => ETag.Length == 64;

    /// <summary>The fields can become a path and a check: a safe name, a size, and a known hash.</summary>
    public bool IsSound => HubReference.IsSafeName(Path) && Size >= 0 && IsHash(ETag);

    /// <summary>An ETag that is a content hash; mirrors put their own marks in its place.</summary>
    public static bool IsHash(string text) => Hash().IsMatch(text);

    [GeneratedRegex(@"^([0-9a-f]{40}|[0-9a-f]{64})\z")]
    private static partial Regex Hash();
}
