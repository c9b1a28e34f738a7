namespace Pipeline.Shared.Hub;

/// <summary>Fetched files of a repository at one commit, on disk.</summary>
/// <param name="Commit">The commit the revision stood for.</param>
/// <param name="Path">
/// The file, where one was asked for or a glob matched only one; else the folder asked for, or the one a glob starts in: for
/// a model the folder of the whole snapshot. It may hold more files of the same commit, from other fetches.
/// </param>
/// <param name="Files">Paths of exactly what was asked for, in ordinal order of their names.</param>
public sealed record HubSnapshot(string Commit, string Path, IReadOnlyList<string> Files);
