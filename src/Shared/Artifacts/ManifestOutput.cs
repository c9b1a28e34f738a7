namespace Pipeline.Shared.Artifacts;

/// <summary>A file a stage wrote.</summary>
/// <param name="Name">Its path relative to the manifest's folder, with <c>/</c>.</param>
/// <param name="Bytes">Its length.</param>
/// <param name="Sha256">Lowercase hex SHA-256 of its content.</param>
/// <param name="Rows">Rows it holds, where it is a table.</param>
/// <param name="Dtype">Element type, e.g. <c>float16</c>, where it holds one tensor.</param>
/// <param name="Shape">Sizes by axis name in order, e.g. {"row": 65536, "d_model": 256}.</param>
public sealed record ManifestOutput(
    string Name,
    long Bytes,
    string Sha256,
    long? Rows = null,
    string? Dtype = null,
    IReadOnlyDictionary<string, long>? Shape = null
)
{
    /// <summary>An output of <paramref name="digest"/>, as <see cref="AtomicFile"/> returned it.</summary>
    public static ManifestOutput Of(string name, FileDigest digest)
    {
        ArgumentNullException.ThrowIfNull(digest);
        return new ManifestOutput(name, digest.Bytes, digest.Sha256);
    }
}
