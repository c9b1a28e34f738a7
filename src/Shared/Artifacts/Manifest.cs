using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Pipeline.Shared.Artifacts;

/// <summary>Something a stage read: its name, where it lay, and its fingerprint (of a stage) or hash (of files).</summary>
public sealed record ManifestInput(string Name, string Path, string Fingerprint);

/// <summary>A file a stage wrote.</summary>
/// <param name="Name">Relative to the manifest's folder, with '/'.</param>
/// <param name="Bytes">Length.</param>
/// <param name="Sha256">Lowercase hex.</param>
/// <param name="Rows">Rows of a shard, null for other files.</param>
/// <param name="Dtype">Element type, null where there is none.</param>
/// <param name="Shape">Sizes by axis name, null where there are none.</param>
public sealed record ManifestOutput(
    string Name,
    long Bytes,
    string Sha256,
    long? Rows = null,
    string? Dtype = null,
    IReadOnlyDictionary<string, long>? Shape = null
);

/// <summary>
/// What a stage's folder holds and what it was made from. It is written last and atomically: where it is, the folder is
/// complete. <see cref="Fingerprint"/> covers schema, stage, config and the inputs' fingerprints; paths, device, versions
/// and time (<see cref="Provenance"/>) stand outside it.
/// </summary>
public sealed record Manifest
{
    public const string FileName = "manifest.json";
    public const int CurrentSchema = 1;

    private static readonly JsonSerializerOptions Format = new()
    {
        WriteIndented = true,
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        RespectRequiredConstructorParameters = true,
        RespectNullableAnnotations = true,
    };

    public int Schema { get; init; } = CurrentSchema;
    public required string Stage { get; init; }
    public required JsonObject Config { get; init; }
    public required IReadOnlyList<ManifestInput> Inputs { get; init; }
    public required IReadOnlyList<ManifestOutput> Outputs { get; init; }

    /// <summary>Figures a reader wants at hand: tokens, documents, final losses.</summary>
    public JsonObject Results { get; init; } = [];
    public required string Fingerprint { get; init; }
    public JsonObject Provenance { get; init; } = [];

    /// <summary>SHA-256 of this manifest's canonical content without this field: damage to a manifest shows in itself.</summary>
    public string? Self { get; init; }

    /// <summary>What <see cref="Fingerprint"/> is the hash of.</summary>
    public static JsonObject Identity(string stage, JsonObject config, IEnumerable<ManifestInput> inputs) =>
        new()
        {
            ["schema"] = CurrentSchema,
            ["stage"] = stage,
            ["config"] = config.DeepClone(),
            ["inputs"] = new JsonObject(inputs.Select(i => KeyValuePair.Create(i.Name, (JsonNode?)i.Fingerprint))),
        };

    /// <summary>Reads a folder's manifest; null where there is none.</summary>
    /// <exception cref="CorruptArtifactException">There is one, but not as it was written.</exception>
    public static Manifest? TryRead(string folder)
    {
        string path = Path.Combine(folder, FileName);
        if (!File.Exists(path))
        {
            return null;
        }
        Manifest manifest;
        try
        {
            manifest =
                JsonSerializer.Deserialize<Manifest>(File.ReadAllBytes(path), Format)
                ?? throw new JsonException("null is no manifest");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or ArgumentException)
        {
            throw new CorruptArtifactException(Damaged(path, e.Message), e);
        }
        return manifest.Self == manifest.HashOfSelf()
            ? manifest
            : throw new CorruptArtifactException(Damaged(path, "content that does not match its own hash"));
    }

    public void Write(string folder)
    {
        var sealedManifest = this with { Self = HashOfSelf() };
        AtomicFile.Write(
            Path.Combine(folder, FileName),
            stream => JsonSerializer.Serialize(stream, sealedManifest, Format)
        );
    }

    /// <summary>Every output that is missing or not as it was written.</summary>
    /// <param name="folder">The manifest's folder.</param>
    /// <param name="rehash">Compare hashes too; otherwise presence and length.</param>
    public IEnumerable<Fault> Verify(string folder, bool rehash)
    {
        foreach (var output in Outputs)
        {
            string path = Path.Combine(folder, output.Name);
            string remedy = "Remove the file if it is there, and run the pipeline again to make it anew";
            if (Path.IsPathRooted(output.Name) || output.Name.Split('/').Contains(".."))
            {
                yield return new Fault(path, "a name that leaves its folder", "a file in this folder", remedy);
            }
            else if (!File.Exists(path))
            {
                yield return new Fault(path, "no file", $"{output.Bytes} bytes", remedy);
            }
            else if (new FileInfo(path).Length is var length && length != output.Bytes)
            {
                yield return new Fault(path, $"{length} bytes", $"{output.Bytes} bytes", remedy);
            }
            else if (rehash && FileDigest.Of(path).Sha256 is var hash && hash != output.Sha256)
            {
                yield return new Fault(path, $"SHA-256 {hash}", output.Sha256, remedy);
            }
        }
    }

    private string HashOfSelf() =>
        Artifacts.Fingerprint.Of(JsonSerializer.SerializeToNode(this with { Self = null }, Format));

    private static string Damaged(string path, string found) =>
        new Fault(
            path,
            found,
            "a manifest as a stage wrote it",
            "Remove the file; the stage then runs again"
        ).ToString();
}
