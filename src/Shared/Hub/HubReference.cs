using System.Buffers;
using System.Text.RegularExpressions;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Configuration;

namespace Pipeline.Shared.Hub;

/// <summary>
/// What an <c>hf://</c> name points at: <c>hf://[datasets/]ORG/NAME[@REVISION][/PATH]</c>. PATH is a file, a folder, or a
/// glob in which <c>*</c> and <c>?</c> stay within one folder and <c>**</c> crosses folders.
/// </summary>
/// <param name="IsDataset">A dataset repository, otherwise a model's.</param>
/// <param name="Organization">The owner.</param>
/// <param name="Name">The repository's name.</param>
/// <param name="Revision">A branch, a tag, <c>refs/pr/N</c>, or a commit hash; <c>main</c> where none was written.</param>
/// <param name="Path">The wanted file, folder or glob; null for what a model needs, or all of a dataset that has no more than
/// one folder.</param>
public sealed partial record HubReference(
    bool IsDataset,
    string Organization,
    string Name,
    string Revision,
    string? Path
)
{
    public const string Scheme = "hf://";
    private const string Datasets = "datasets/";
    private const string DefaultRevision = "main";
    private const string Form = "hf://ORG/NAME[@REVISION][/PATH] or hf://datasets/ORG/NAME[@REVISION][/PATH]";
    private const string Example = "Write it like hf://openai-community/gpt2 or hf://datasets/ORG/NAME/folder/*.jsonl";

    private static readonly SearchValues<char> NeverInRevisions = SearchValues.Create("~^?*[ ");

    public string Id => $"{Organization}/{Name}";

    /// <summary>The revision is a commit hash, whose files never change.</summary>
    public bool IsCommit => GitHash().IsMatch(Revision);

    public bool IsGlob => Path is not null && Path.AsSpan().ContainsAny('*', '?');

    /// <summary>The part of the path before the first segment with a wildcard; empty for the root.</summary>
    public string LiteralFolder =>
        Path is null ? "" : string.Join('/', Path.Split('/').TakeWhile(segment => !HasWildcard(segment)));

    /// <exception cref="ConfigurationException">Another form, or a name that could leave its folder.</exception>
    public static HubReference Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        if (!text.StartsWith(Scheme, StringComparison.Ordinal))
        {
            throw Refuse(text, "no hf:// in front", Form, Example);
        }
        string rest = text[Scheme.Length..];
        bool isDataset = rest.StartsWith(Datasets, StringComparison.Ordinal);
        var parts = Parts().Match(isDataset ? rest[Datasets.Length..] : rest);
        if (!parts.Success)
        {
            throw Refuse(text, $"'{Spelling.Shown(rest)}' after hf://", Form, Example);
        }
        string organization = parts.Groups["org"].Value;
        string name = parts.Groups["name"].Value;
        if (!IsRepositoryName(organization) || !IsRepositoryName(name) || organization is "datasets" or "spaces")
        {
            throw Refuse(
                text,
                $"'{organization}/{name}' as the repository",
                "an owner and a name of letters, digits, '-', '_' and '.', without '..' or '--'",
                Example
            );
        }
        string revision = parts.Groups["revision"].Success
            ? Uri.UnescapeDataString(parts.Groups["revision"].Value)
            : DefaultRevision;
        if (!IsSafeName(revision) || revision.AsSpan().ContainsAny(NeverInRevisions))
        {
            throw Refuse(
                text,
                $"'{Spelling.Shown(revision)}' as the revision",
                "a branch, a tag or a commit hash",
                "Take the revision from the repository's page"
            );
        }
        string? path = parts.Groups["path"].Value is { Length: > 0 } written ? written : null;
        if (path is not null && !IsSafeName(path))
        {
            throw Refuse(
                text,
                $"'{Spelling.Shown(path)}' as the path",
                "a name inside the repository, with '/' between folders and without '..', drives or backslashes",
                "Take the path from the repository's file list"
            );
        }
        return new HubReference(isDataset, organization, name, revision, path);
    }

    /// <summary>Whether the path asks for <paramref name="file"/>: the same name, a folder above it, or a fitting glob.</summary>
    public bool Matches(string file)
    {
        ArgumentNullException.ThrowIfNull(file);
        return Path is null ? IsDataset || ModelFiles.Needs(file)
            : IsGlob ? Regex.IsMatch(file, GlobPattern(Path), RegexOptions.NonBacktracking)
            : file == Path || file.StartsWith(Path + "/", StringComparison.Ordinal);
    }

    /// <summary>A name of the hub's that can become a path: it stays in its folder and prints on one line.</summary>
    internal static bool IsSafeName(string name) =>
        ArtifactPath.TryResolve(".", name, out _) && !name.Any(c => char.IsControl(c));

    /// <summary>40 lower-case hexadecimal digits: a commit, or the hash of a plain file.</summary>
    internal static bool IsGitHash(string text) => GitHash().IsMatch(text);

    public override string ToString() =>
        $"{Scheme}{(IsDataset ? Datasets : "")}{Id}"
        + (Revision == DefaultRevision ? "" : $"@{Revision.Replace("/", "%2F", StringComparison.Ordinal)}")
        + (Path is null ? "" : $"/{Path}");

    private static bool HasWildcard(string segment) => segment.AsSpan().ContainsAny('*', '?');

    private static bool IsRepositoryName(string name) =>
        RepositoryName().IsMatch(name)
        && !name.Contains("..", StringComparison.Ordinal)
        && !name.Contains("--", StringComparison.Ordinal);

    private static string GlobPattern(string glob) =>
        "^"
        + Regex
            .Escape(glob)
            .Replace(@"\*\*/", "(.*/)?", StringComparison.Ordinal)
            .Replace(@"\*\*", ".*", StringComparison.Ordinal)
            .Replace(@"\*", "[^/]*", StringComparison.Ordinal)
            .Replace(@"\?", "[^/]", StringComparison.Ordinal)
        + @"\z";

    private static ConfigurationException Refuse(string text, string found, string expected, string remedy) =>
        new(new Fault(Spelling.Shown(text), found, expected, remedy).ToString());

    // refs/pr/N and refs/convert/NAME are the revisions that people write with their slashes.
    [GeneratedRegex(
        @"^(?<org>[^/@]+)/(?<name>[^/@]+)(@(?<revision>refs/(pr|convert)/[^/]+|[^/]+))?(/(?<path>.*))?\z",
        RegexOptions.Singleline
    )]
    private static partial Regex Parts();

    [GeneratedRegex(@"^[A-Za-z0-9_][A-Za-z0-9._-]{0,95}\z")]
    private static partial Regex RepositoryName();

    [GeneratedRegex(@"^[0-9a-f]{40}\z")]
    private static partial Regex GitHash();
}
