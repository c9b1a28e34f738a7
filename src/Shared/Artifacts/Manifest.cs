using System.Globalization;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;

namespace Pipeline.Shared.Artifacts;

/// <summary>
/// What a finished stage folder holds, and what it was made from. Written last and atomically: a folder without its
/// manifest is incomplete. The file carries a hash of itself, so damage to it is noticed as well.
/// </summary>
/// <param name="Stage">The stage's name, e.g. <c>harvest</c>.</param>
/// <param name="Config">The stage's resolved configuration.</param>
/// <param name="Inputs">What it read.</param>
/// <param name="Outputs">What it wrote.</param>
/// <param name="Results">Numbers a reader wants, e.g. tokens, documents.</param>
/// <param name="Fingerprint">See <see cref="Artifacts.Fingerprint"/>.</param>
/// <param name="Provenance">Device, threads, versions, wall_seconds, finished: outside the fingerprint.</param>
public sealed record Manifest(
    string Stage,
    JsonObject Config,
    IReadOnlyList<ManifestInput> Inputs,
    IReadOnlyList<ManifestOutput> Outputs,
    JsonObject Results,
    string Fingerprint,
    JsonObject Provenance
)
{
    public const string FileName = "manifest.json";

    /// <summary>The artifact format this build reads and writes.</summary>
    public const int CurrentSchema = 1;

    private static readonly JsonSerializerOptions Serializer = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        DefaultIgnoreCondition = JsonIgnoreCondition.WhenWritingNull,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        WriteIndented = true,
    };

    /// <summary>The artifact format's version.</summary>
    [JsonPropertyOrder(-1)]
    public int Schema { get; init; } = CurrentSchema;

    /// <summary>A manifest whose fingerprint is computed from the rest.</summary>
    public static Manifest Create(
        string stage,
        JsonObject config,
        IReadOnlyList<ManifestInput> inputs,
        IReadOnlyList<ManifestOutput> outputs,
        JsonObject? results = null,
        JsonObject? provenance = null
    ) =>
        new(
            stage,
            config,
            inputs,
            outputs,
            results ?? [],
            Artifacts.Fingerprint.Of(CurrentSchema, stage, config, inputs.Select(i => (i.Name, i.Fingerprint))),
            provenance ?? []
        );

    /// <summary>The manifest of <paramref name="folder"/>, or null where there is none.</summary>
    /// <exception cref="CorruptArtifactException">The file is not a manifest this build wrote, or was altered.</exception>
    public static Manifest? TryRead(string folder)
    {
        string path = Path.Combine(folder, FileName);
        if (SealedJson.TryRead(path) is not { } json)
        {
            return null;
        }
        RequireSchema(path, json);
        try
        {
            var manifest = json.Deserialize<Manifest>(Serializer);
            return manifest ?? throw new JsonException("null");
        }
        catch (Exception e)
            when (e is JsonException or InvalidOperationException or FormatException or ArgumentException)
        {
            throw SealedJson.Corrupt(path, e.Message, "the JSON of a manifest", e);
        }
    }

    /// <summary>The manifest of a stage that is complete and whose every byte is as it was written: to call before using any.</summary>
    /// <exception cref="CorruptArtifactException">No manifest, an altered one, or an output that is missing or altered.</exception>
    public static Manifest RequireWhole(string folder)
    {
        var manifest =
            TryRead(folder)
            ?? throw SealedJson.Corrupt(Path.Combine(folder, FileName), "no file", "the manifest of a finished stage");
        return manifest.Verify(folder, rehash: true) is [var fault, ..]
            ? throw new CorruptArtifactException(fault.ToString())
            : manifest;
    }

    /// <summary>Publishes <paramref name="manifest"/> as the folder's <c>manifest.json</c>.</summary>
    /// <exception cref="ArgumentException">An output's name leaves the folder.</exception>
    /// <exception cref="StageFailedException">The disk is full.</exception>
    public static FileDigest Write(string folder, Manifest manifest)
    {
        ArgumentNullException.ThrowIfNull(manifest);
        foreach (var output in manifest.Outputs)
        {
            if (!ArtifactPath.TryResolve(folder, output.Name, out _))
            {
                throw new ArgumentException($"'{output.Name}' is no path inside the folder", nameof(manifest));
            }
        }
        var json = JsonSerializer.SerializeToNode(manifest, Serializer)!.AsObject();
        return SealedJson.Write(Path.Combine(folder, FileName), json);
    }

    /// <summary>Every output that is missing or altered, and every name that would leave the folder.</summary>
    /// <param name="folder">The manifest's folder.</param>
    /// <param name="rehash">Whether to read the files and compare hashes; otherwise only their lengths are compared.</param>
    public IReadOnlyList<Fault> Verify(string folder, bool rehash) =>
        [.. Outputs.Select(output => Verify(folder, output, rehash)).OfType<Fault>()];

    private Fault? Verify(string folder, ManifestOutput output, bool rehash)
    {
        string remedy = $"Delete it if it is there and run the pipeline again: {Stage} makes anew what is missing";
        if (!ArtifactPath.TryResolve(folder, output.Name, out string? path))
        {
            return new Fault(
                $"{Path.Combine(folder, FileName)}: outputs",
                $"the name '{output.Name}'",
                "a path inside the folder",
                "Do not trust this folder: make it again"
            );
        }
        var file = new FileInfo(path);
        if (!file.Exists)
        {
            return new Fault(path, "no file", Bytes(output.Bytes), remedy);
        }
        if (file.Length != output.Bytes)
        {
            return new Fault(path, Bytes(file.Length), Bytes(output.Bytes), remedy);
        }
        if (!rehash)
        {
            return null;
        }
        try
        {
            string sha256 = AtomicFile.Digest(path).Sha256;
            return sha256 == output.Sha256 ? null : new Fault(path, $"SHA-256 {sha256}", output.Sha256, remedy);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new Fault(path, $"an unreadable file ({e.Message})", Bytes(output.Bytes), remedy);
        }
    }

    private static void RequireSchema(string path, JsonObject json)
    {
        if (json["schema"] is not JsonValue schema || !schema.TryGetValue(out int version) || version != CurrentSchema)
        {
            string found = json["schema"]?.ToJsonString() ?? "absent";
            throw SealedJson.Corrupt(
                path,
                $"schema {found}",
                $"schema {CurrentSchema.ToString(CultureInfo.InvariantCulture)}"
            );
        }
    }

    private static string Bytes(long count) => string.Create(CultureInfo.InvariantCulture, $"{count} bytes");
}
