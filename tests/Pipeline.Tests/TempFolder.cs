namespace Pipeline.Tests;

/// <summary>A folder of its own for one test, removed afterwards.</summary>
public sealed class TempFolder : IDisposable
{
    public TempFolder() => Path = Directory.CreateTempSubdirectory("pipeline-test-").FullName;

    public string Path { get; }

    public string this[params string[] parts] => File(parts);

    public string File(params string[] parts) => System.IO.Path.Combine([Path, .. parts]);

    /// <summary>Writes a text file and returns its path.</summary>
    public string Write(string name, string text)
    {
        string path = File(name);
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(path)!);
        using var writer = new StreamWriter(path);
        writer.Write(text);
        return path;
    }

    /// <summary>Writes bytes past every protocol, as damage does.</summary>
    public static void Overwrite(string path, ReadOnlySpan<byte> bytes)
    {
        using var stream = new FileStream(path, FileMode.Create, FileAccess.Write);
        stream.Write(bytes);
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
