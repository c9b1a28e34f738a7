namespace Pipeline.Shared.Artifacts;

/// <summary>What a file holds, in short: its length in bytes and the lowercase hex SHA-256 of its content.</summary>
public sealed record FileDigest(long Bytes, string Sha256);
