namespace Pipeline.Shared;

/// <summary>Reading what others wrote: whatever a library throws at damaged content becomes an error that names the file.</summary>
internal static class ForeignFile
{
    /// <summary>Larger than any tokenizer or index in use.</summary>
    private const int MostBytes = 64 << 20;

    /// <summary>Bytes of the file itself where the path is a link to it, as in the hub's cache: FileInfo measures the link.</summary>
    public static long LengthOf(string path)
    {
        using var file = File.OpenHandle(path);
        return RandomAccess.GetLength(file);
    }

    /// <summary>A whole file that is read into memory.</summary>
    /// <exception cref="ConfigurationException">It is larger than such a file ever is.</exception>
    public static byte[] ReadBytes(string path)
    {
        long length = LengthOf(path);
        return length <= MostBytes
            ? File.ReadAllBytes(path)
            : throw new ConfigurationException(
                new Fault(path, $"{length} bytes", $"at most {MostBytes}", "Check the file").ToString()
            );
    }

    /// <param name="path">The file.</param>
    /// <param name="expected">What it should be.</param>
    /// <param name="read">Reads it.</param>
    /// <exception cref="ConfigurationException">The content is not what it should be.</exception>
    public static T Read<T>(string path, string expected, Func<T> read)
    {
        try
        {
            return read();
        }
        catch (Exception e) when (e is not (PipelineException or OutOfMemoryException))
        {
            throw new ConfigurationException(
                new Fault(path, e.Message, expected, "Download or write the file again").ToString(),
                e
            );
        }
    }
}
