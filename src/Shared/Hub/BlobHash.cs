using System.Globalization;
using System.Security.Cryptography;
using System.Text;

namespace Pipeline.Shared.Hub;

/// <summary>The hash the hub names a file by, fed front to back.</summary>
internal sealed class BlobHash : IDisposable
{
    private readonly HubFile file;
    private readonly IncrementalHash hash;

    public BlobHash(HubFile file)
    {
        this.file = file;
        hash = IncrementalHash.CreateHash(file.IsLfs ? HashAlgorithmName.SHA256 : HashAlgorithmName.SHA1);
        Restart();
    }

    public void Append(ReadOnlySpan<byte> bytes) => hash.AppendData(bytes);

    /// <summary>Forgets what was fed.</summary>
    public void Restart()
    {
        hash.GetHashAndReset();
        if (!file.IsLfs)
        {
            // git hashes a blob with its type and length in front.
            hash.AppendData(
                Encoding.ASCII.GetBytes(string.Create(CultureInfo.InvariantCulture, $"blob {file.Size}\0"))
            );
        }
    }

    /// <summary>Whether what was fed is the file; the next bytes start afresh.</summary>
    public bool IsRight()
    {
        bool right = Convert.ToHexStringLower(hash.GetHashAndReset()) == file.ETag;
        Restart();
        return right;
    }

    public void Dispose() => hash.Dispose();
}
