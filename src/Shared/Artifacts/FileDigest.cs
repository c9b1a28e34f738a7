using System.Security.Cryptography;

namespace Pipeline.Shared.Artifacts;

/// <param name="Bytes">The file's length.</param>
/// <param name="Sha256">Lowercase hex SHA-256 of its bytes.</param>
public sealed record FileDigest(long Bytes, string Sha256)
{
    /// <summary>Reads a file and hashes it.</summary>
    public static FileDigest Of(string path)
    {
        using var stream = new FileStream(
            path,
            FileMode.Open,
            FileAccess.Read,
            FileShare.Read,
            1,
            FileOptions.SequentialScan
        );
        byte[] hash = SHA256.HashData(stream);
        return new FileDigest(stream.Length, Convert.ToHexStringLower(hash));
    }
}
