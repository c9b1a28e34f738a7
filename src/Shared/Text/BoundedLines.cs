using System.Text;

namespace Pipeline.Shared.Text;

/// <summary>Lines of a UTF-8 file, refusing what is not text: invalid UTF-8, and lines beyond any document's length.</summary>
internal static class BoundedLines
{
    public const int MaximumCharacters = 64 << 20;
    private const int BufferCharacters = 1 << 14;

    /// <summary>Each line without its ending, with its 1-based number; decompressed where the name says so.</summary>
    public static IEnumerable<(int Number, string Line)> Read(string path)
    {
        using var reader = TextFile.Reader(TextFile.Open(path));
        char[] buffer = new char[BufferCharacters];
        var line = new StringBuilder(); // of which no end was seen yet
        int number = 1;
        for (int read; (read = Fill(reader, buffer, path, number)) > 0; )
        {
            int zero = buffer.AsSpan(0, read).IndexOf('\0');
            if (zero >= 0) // valid UTF-8, and what a crash leaves of a file that was being written
            {
                throw ZeroByte(path, number + buffer.AsSpan(0, zero).Count('\n'));
            }
            int start = 0;
            for (int end; (end = buffer.AsSpan(start, read - start).IndexOf('\n')) >= 0; start += end + 1)
            {
                line.Append(buffer, start, end);
                yield return (number, Take(line, path, number));
                number++;
            }
            line.Append(buffer, start, read - start);
            if (line.Length > MaximumCharacters)
            {
                throw TooLong(path, number);
            }
        }
        if (line.Length > 0)
        {
            yield return (number, Take(line, path, number));
        }
    }

    /// <summary>The error of bytes that are not UTF-8.</summary>
    public static ConfigurationException NotUtf8(string path, int line, Exception inner) =>
        new(
            new Fault(
                $"{path}: near line {line}",
                "bytes that are not UTF-8",
                "UTF-8 text",
                "Convert the file"
            ).ToString(),
            inner
        );

    private static int Fill(StreamReader reader, char[] buffer, string path, int number)
    {
        try
        {
            return reader.Read(buffer);
        }
        catch (DecoderFallbackException e)
        {
            throw NotUtf8(path, number, e);
        }
    }

    private static string Take(StringBuilder line, string path, int number)
    {
        if (line.Length > MaximumCharacters)
        {
            throw TooLong(path, number);
        }
        if (line.Length > 0 && line[^1] == '\r')
        {
            line.Length--;
        }
        string taken = line.ToString();
        line.Clear();
        return taken;
    }

    private static ConfigurationException ZeroByte(string path, int number) =>
        new(
            new Fault(
                $"{path}: line {number}",
                "a zero byte, as in UTF-16 and in what a crash or a full disk leaves",
                "UTF-8 text",
                "Copy or convert the file again"
            ).ToString()
        );

    private static ConfigurationException TooLong(string path, int number) =>
        new(
            new Fault(
                $"{path}: line {number}",
                "a line of more than 64 M characters",
                "a document a line",
                "Split the document"
            ).ToString()
        );
}
