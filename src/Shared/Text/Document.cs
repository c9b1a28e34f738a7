namespace Pipeline.Shared.Text;

/// <summary>One document of a text source.</summary>
/// <param name="Id">The source's own id, or file name and place where it has none.</param>
/// <param name="Title">Empty where the source has none.</param>
/// <param name="Text">The body, without the title.</param>
public sealed record Document(string Id, string Title, string Text)
{
    /// <summary>Pages that are only a title are skipped, whatever format they come in.</summary>
    internal bool HasText => !string.IsNullOrWhiteSpace(Text);
}
