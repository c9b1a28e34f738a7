using System.Text;

namespace Pipeline.Shared.Text;

/// <summary>Lines of a UTF-8 file, refusing what is not text: invalid UTF-8, and lines beyond any document's length.</summary>
internal static class BoundedLines
{
    public const int MaximumCharacters = 64 << 20;

    /// <summary>Each line without its ending, with its 1-based number.</summary>
    public static IEnumerable<(int Number, string Line)> Read(string path)
    {
        using var reader = new StreamReader(
            new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16, FileOptions.SequentialScan),
            new UTF8Encoding(encoderShouldEmitUTF8Identifier: false, throwOnInvalidBytes: true)
        );
        for (int number = 1; ; number++)
        {
            if (NextLine(reader, path, number) is not { } line)
            {
                yield break;
            }
            yield return (number, line);
        }
    }

    private static string? NextLine(StreamReader reader, string path, int number)
    {
        try
        {
            return ReadLine(reader, path, number);
        }
        catch (DecoderFallbackException e)
        {
            throw new ConfigurationException(
                new Fault(
                    $"{path}: near line {number}",
                    "bytes that are not UTF-8",
                    "UTF-8 text",
                    "Convert the file"
                ).ToString(),
                e
            );
        }
    }

    private static string? ReadLine(StreamReader reader, string path, int number)
    {
        var line = new StringBuilder();
        bool any = false;
        for (int c = reader.Read(); c >= 0; c = reader.Read())
        {
            any = true;
            if (c == '\n')
            {
                break;
            }
            line.Append((char)c);
            if (line.Length > MaximumCharacters)
            {
                throw new ConfigurationException(
                    new Fault(
                        $"{path}: line {number}",
                        "a line of more than 64 M characters",
                        "a document a line",
                        "Split the document"
                    ).ToString()
                );
            }
        }
        if (line.Length > 0 && line[^1] == '\r')
        {
            line.Length--;
        }
        return any ? line.ToString() : null;
    }
}
