namespace Pipeline.Shared.Text;

/// <summary>Documents from files, streamed in file order: memory does not grow with the source.</summary>
public interface ITextSource
{
    /// <summary>The files read, in order: what the source's identity is made of.</summary>
    IReadOnlyList<string> Files { get; }

    /// <exception cref="ConfigurationException">A file that is not of the source's format; the message names file and line.</exception>
    IEnumerable<Document> Read();
}
