using System.Text.Json;
using System.Text.Json.Nodes;

namespace Pipeline.Shared.Artifacts;

public enum StageState
{
    /// <summary>Nothing there.</summary>
    Absent,

    /// <summary>Work of this very identity, not finished.</summary>
    Partial,

    /// <summary>Finished, but an output is missing or has another length.</summary>
    Damaged,

    /// <summary>Made from other settings or inputs.</summary>
    Stale,

    UpToDate,
}

/// <summary>
/// The folder of one stage: what it would be made from now (its identity), and how that compares with what lies there.
/// A finished folder has a manifest; unfinished work has <c>.work.json</c> with the identity it belongs to.
/// </summary>
public sealed class StageFolder
{
    /// <summary>The note that unfinished work leaves.</summary>
    public const string WorkName = ".work.json";

    private readonly string stage;
    private readonly JsonObject config;
    private readonly IReadOnlyList<ManifestInput> inputs;

    /// <param name="path">The folder.</param>
    /// <param name="stage">The stage's name.</param>
    /// <param name="config">Every setting its outputs depend on.</param>
    /// <param name="inputs">Everything it reads.</param>
    public StageFolder(string path, string stage, JsonObject config, IReadOnlyList<ManifestInput> inputs)
    {
        (Path, this.stage, this.config, this.inputs) = (path, stage, config, inputs);
        Fingerprint = Artifacts.Fingerprint.Of(Identity);
        (State, Reason) = Inspect();
    }

    public string Path { get; }

    public string Fingerprint { get; }

    public StageState State { get; private set; }

    /// <summary>Why the state is what it is, for a person.</summary>
    public string Reason { get; private set; }

    private JsonObject Identity => Manifest.Identity(stage, config, inputs);

    /// <summary>
    /// Makes the folder ready to work in: what belongs to another identity goes, temporary files of killed runs go, and
    /// finished parts of this identity stay.
    /// </summary>
    public void Begin()
    {
        AtomicFile.RemoveTemporaries(Path);
        if (State == StageState.Stale && Directory.Exists(Path))
        {
            Directory.Delete(Path, recursive: true);
        }
        AtomicFile.WriteText(System.IO.Path.Combine(Path, WorkName), Identity.ToJsonString());
        File.Delete(System.IO.Path.Combine(Path, Manifest.FileName));
        State = StageState.Partial;
    }

    /// <summary>Seals the folder: the manifest is written last.</summary>
    public void Complete(IReadOnlyList<ManifestOutput> outputs, JsonObject results, JsonObject provenance)
    {
        new Manifest
        {
            Stage = stage,
            Config = config,
            Inputs = inputs,
            Outputs = outputs,
            Results = results,
            Fingerprint = Fingerprint,
            Provenance = provenance,
        }.Write(Path);
        File.Delete(System.IO.Path.Combine(Path, WorkName));
        (State, Reason) = (StageState.UpToDate, "complete");
    }

    private (StageState State, string Reason) Inspect()
    {
        if (!Directory.Exists(Path))
        {
            return (StageState.Absent, "not run yet");
        }
        if (TryReadManifest(out string damage) is { } manifest)
        {
            if (manifest.Fingerprint != Fingerprint)
            {
                return (
                    StageState.Stale,
                    Difference(Manifest.Identity(manifest.Stage, manifest.Config, manifest.Inputs))
                );
            }
            var faults = manifest.Verify(Path, rehash: false).ToList();
            return faults.Count == 0 ? (StageState.UpToDate, "up to date") : (StageState.Damaged, faults[0].ToString());
        }
        string work = System.IO.Path.Combine(Path, WorkName);
        if (!File.Exists(work))
        {
            return damage.Length > 0 ? (StageState.Stale, damage) : (StageState.Absent, "not run yet");
        }
        return Parse(work) is { } identity && Artifacts.Fingerprint.Of(identity) == Fingerprint
            ? (StageState.Partial, "begun and not finished")
            : (StageState.Stale, Difference(Parse(work)));
    }

    private Manifest? TryReadManifest(out string damage)
    {
        damage = "";
        try
        {
            return Manifest.TryRead(Path);
        }
        catch (CorruptArtifactException e)
        {
            damage = e.Message;
            return null;
        }
    }

    private string Difference(JsonNode? before) =>
        Artifacts.Fingerprint.FirstDifference(before, Identity) is var (path, left, right)
            ? $"{path} was {left}, now {right}"
            : "made by another version";

    private static JsonNode? Parse(string path)
    {
        try
        {
            return JsonNode.Parse(File.ReadAllText(path));
        }
        catch (JsonException)
        {
            return null; // a damaged note of unfinished work: the work is begun anew
        }
    }
}
