using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Shared.Artifacts;

/// <summary>Identities of the files a run reads, by content.</summary>
public static class Inputs
{
    /// <summary>Lowercase hex SHA-256 over names (relative to the first file's folder) and bytes of files, in order.</summary>
    public static string HashOf(IReadOnlyList<string> files)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        string root = Path.GetDirectoryName(Path.GetFullPath(files[0]))!;
        foreach (string file in files)
        {
            hash.AppendData(Encoding.UTF8.GetBytes(Path.GetRelativePath(root, file) + "\0"));
            hash.AppendData(Convert.FromHexString(AtomicFile.Digest(file).Sha256));
        }
        return Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
