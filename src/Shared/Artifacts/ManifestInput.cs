namespace Pipeline.Shared.Artifacts;

/// <summary>Something a stage read.</summary>
/// <param name="Name">Its role, e.g. <c>model</c>; unique within the manifest.</param>
/// <param name="Path">Where it lay; for readers, not part of the fingerprint.</param>
/// <param name="Fingerprint">Its manifest's fingerprint, or the SHA-256 of its content.</param>
public sealed record ManifestInput(string Name, string Path, string Fingerprint);
