using System.Text;

namespace Pipeline.Shared.Text;

/// <summary>A document that grows line by line, up to any document's length: a file need not say where its documents end.</summary>
internal sealed class BoundedText(string path)
{
    private readonly StringBuilder text = new();

    /// <exception cref="ConfigurationException">The document has become too long.</exception>
    public void AppendLine(string line)
    {
        text.Append(line).Append('\n');
        if (text.Length > BoundedLines.MaximumCharacters)
        {
            throw new ConfigurationException(
                new Fault(
                    path,
                    $"a document of more than {BoundedLines.MaximumCharacters >> 20} M characters",
                    "documents",
                    "Divide it, or check the file"
                ).ToString()
            );
        }
    }

    /// <summary>What was appended; begins anew.</summary>
    public string Take()
    {
        string taken = text.ToString();
        text.Clear();
        return taken;
    }
}
