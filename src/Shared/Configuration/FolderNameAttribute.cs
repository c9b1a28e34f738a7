namespace Pipeline.Shared.Configuration;

/// <summary>A text that becomes the name of a folder on any file system: letters a to z, digits, <c>. _ -</c>, a letter
/// or digit at both ends (so never <c>..</c>), at most 100 characters.</summary>
public sealed class FolderNameAttribute : ValueRuleAttribute
{
    private const int LongestName = 100;

    public override string Expected =>
        "a name of at most 100 letters, digits, '.', '_' and '-' that begins and ends with a letter or digit";

    public override bool Holds(object value) =>
        value is string { Length: > 0 and <= LongestName } name
        && name.All(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' or '-')
        && char.IsAsciiLetterOrDigit(name[0])
        && char.IsAsciiLetterOrDigit(name[^1]);
}
