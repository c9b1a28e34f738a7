using System.Diagnostics.CodeAnalysis;

namespace Pipeline.Shared.Artifacts;

/// <summary>Relative names inside an artifact folder: they use <c>/</c> and can never leave the folder.</summary>
public static class ArtifactPath
{
    /// <summary>
    /// The path of <paramref name="name"/> under <paramref name="folder"/>; false for an empty name, an absolute or drive
    /// path, a backslash, a colon, or a segment that is empty, <c>.</c> or <c>..</c>.
    /// </summary>
    public static bool TryResolve(string folder, string name, [NotNullWhen(true)] out string? path)
    {
        ArgumentNullException.ThrowIfNull(name);
        path = null;
        if (name.AsSpan().ContainsAny('\\', ':', '\0'))
        {
            return false;
        }
        string[] segments = name.Split('/');
        if (Array.Exists(segments, segment => segment is "" or "." or ".."))
        {
            return false;
        }
        path = Path.Combine([folder, .. segments]);
        return true;
    }
}
