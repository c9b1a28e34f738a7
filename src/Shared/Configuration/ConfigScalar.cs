namespace Pipeline.Shared.Configuration;

/// <summary>A single value, still text.</summary>
internal sealed class ConfigScalar(string text, bool isQuoted, long line, string? given) : ConfigNode(line, given)
{
    /// <summary>The value without its quotes.</summary>
    public string Text => text;

    /// <summary>Whether it stood in quotes or in a block, which makes it text whatever it looks like.</summary>
    public bool IsQuoted => isQuoted;

    /// <summary>Whether the value is one of YAML's spellings of nothing.</summary>
    public bool IsNull => !isQuoted && text is ("" or "~" or "null" or "Null" or "NULL");

    public override string Described =>
        IsNull ? "nothing"
        : isQuoted ? $"the text \"{Spelling.Shown(text)}\""
        : $"'{Spelling.Shown(text)}'";
}
