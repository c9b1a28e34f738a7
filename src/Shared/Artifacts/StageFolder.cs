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

    private const string CheckpointsName = "checkpoints";

    private readonly string stage;
    private readonly JsonObject config;
    private readonly IReadOnlyList<ManifestInput> inputs;
    private readonly PartJournal journal;
    private JsonObject? environment;
    private JsonArray drift = [];

    /// <param name="path">The folder.</param>
    /// <param name="stage">The stage's name.</param>
    /// <param name="config">Every setting its outputs depend on.</param>
    /// <param name="inputs">Everything it reads.</param>
    public StageFolder(string path, string stage, JsonObject config, IReadOnlyList<ManifestInput> inputs)
    {
        (Path, this.stage, this.config, this.inputs) = (path, stage, config, inputs);
        journal = new PartJournal(path);
        Fingerprint = Artifacts.Fingerprint.Of(
            Manifest.CurrentSchema,
            stage,
            config,
            inputs.Select(input => (input.Name, input.Fingerprint))
        );
        (State, Reason) = Inspect();
    }

    public string Path { get; }

    public string Fingerprint { get; }

    public StageState State { get; private set; }

    /// <summary>Why the state is what it is, for a person.</summary>
    public string Reason { get; private set; }

    private JsonObject Identity => IdentityOf(stage, config, inputs);

    /// <summary>
    /// Makes the folder ready to work in: what belongs to another identity goes, and so do temporary files of killed runs
    /// and files that are not as they were written; whole parts of this identity stay.
    /// </summary>
    /// <param name="now">Where the work will be done; null for a stage that computes nothing.</param>
    /// <param name="allowDrift">Whether work begun in another environment may go on in this one; recorded if it does.</param>
    /// <exception cref="ConfigurationException">Parts were made in another environment, and drift is not allowed.</exception>
    public void Begin(ComputeEnvironment? now = null, bool allowDrift = false)
    {
        bool continues = State is StageState.Partial or StageState.Damaged;
        CompareEnvironment(continues ? RecordedEnvironment() : null, now, allowDrift);
        if (State == StageState.Damaged)
        {
            RemoveDamaged();
        }
        else if (!continues && Directory.Exists(Path))
        {
            Directory.Delete(Path, recursive: true);
            Failpoints.Pass("cleared", Path);
        }
        WriteWork();
        File.Delete(System.IO.Path.Combine(Path, Manifest.FileName));
        Failpoints.Pass("begun", Path);
        foreach (string folder in Directory.EnumerateDirectories(Path, "*", SearchOption.AllDirectories).Append(Path))
        {
            AtomicFile.RemoveTemporaries(folder);
        }
        State = StageState.Partial;
    }

    /// <summary>Joins work that <see cref="Begin"/> began, in this or another process.</summary>
    /// <inheritdoc cref="Begin"/>
    public void Join(ComputeEnvironment now, bool allowDrift)
    {
        CompareEnvironment(RecordedEnvironment(), now, allowDrift);
        if (drift.Count > 0)
        {
            WriteWork();
        }
    }

    /// <summary>Checkpoints of the unfinished stage; they go when it is complete.</summary>
    public CheckpointFolder Checkpoints => new(System.IO.Path.Combine(Path, CheckpointsName));

    /// <summary>Looks at the folder again: another process may have worked in it.</summary>
    public void Refresh() => (State, Reason) = Inspect();

    /// <summary>Notes that a file of the unfinished stage is whole.</summary>
    /// <param name="name">Its path in the folder, with <c>/</c>.</param>
    /// <param name="digest">As it was published.</param>
    /// <exception cref="StageFailedException">Another process published the same part with other bytes.</exception>
    public void RecordPart(string name, FileDigest digest) => journal.Record(name, digest);

    /// <summary>Parts noted as whole so far.</summary>
    public int RecordedParts => journal.Count;

    /// <summary>The digest of a part that was noted as whole and still is (its bytes are read); null otherwise.</summary>
    public FileDigest? VerifiedPart(string name) => journal.Verified(name);

    /// <summary>Removes what a process killed between the manifest and its return left.</summary>
    public void RemoveLeftovers()
    {
        File.Delete(System.IO.Path.Combine(Path, WorkName));
        Failpoints.Pass("note removed", Path);
        journal.Delete();
        Failpoints.Pass("journal removed", Path);
        Checkpoints.Delete();
        Failpoints.Pass("checkpoints removed", Path);
    }

    /// <summary>Seals the folder: the manifest is written last.</summary>
    public void Complete(IReadOnlyList<ManifestOutput> outputs, JsonObject results, JsonObject provenance)
    {
        ArgumentNullException.ThrowIfNull(provenance);
        provenance["environment"] = environment?.DeepClone();
        if (drift.Count > 0)
        {
            provenance["drift"] = drift.DeepClone();
        }
        Manifest.Write(Path, Manifest.Create(stage, config, inputs, outputs, results, provenance));
        RemoveLeftovers();
        (State, Reason) = (StageState.UpToDate, "complete");
    }

    private void WriteWork()
    {
        var work = new JsonObject
        {
            ["identity"] = Identity,
            ["environment"] = environment?.DeepClone(),
            ["drift"] = drift.DeepClone(),
        };
        SealedJson.Write(System.IO.Path.Combine(Path, WorkName), work);
    }

    /// <summary>{environment, drift} of the work that lies here, finished or not; null where it says nothing.</summary>
    private JsonObject? RecordedEnvironment()
    {
        if (State == StageState.Damaged)
        {
            return Manifest.TryRead(Path)?.Provenance;
        }
        return ReadWork();
    }

    private void CompareEnvironment(JsonObject? before, ComputeEnvironment? now, bool allowDrift)
    {
        environment = now?.ToJson();
        drift = before?["drift"]?.DeepClone() as JsonArray ?? [];
        if (now is null || before?["environment"] is not JsonObject recorded)
        {
            return;
        }
        if (now.DifferenceFrom(recorded) is not { } difference)
        {
            return;
        }
        if (!allowDrift)
        {
            throw new ConfigurationException(
                new Fault(
                    $"{Path}: {difference.Field}",
                    difference.Now,
                    $"{difference.Before}, with which this {stage} was begun (another gives other last bits)",
                    "Run with that, or add --allow-drift to go on and have it recorded, or delete the folder"
                ).ToString()
            );
        }
        drift.Add(
            new JsonObject
            {
                ["field"] = difference.Field,
                ["before"] = difference.Before,
                ["now"] = difference.Now,
            }
        );
    }

    /// <summary>A file of the right length may still be altered: only those with their old hash are kept.</summary>
    private void RemoveDamaged()
    {
        var manifest = Manifest.TryRead(Path)!;
        foreach (var output in manifest.Outputs)
        {
            if ((manifest with { Outputs = [output] }).Verify(Path, rehash: true).Count > 0)
            {
                File.Delete(System.IO.Path.Combine(Path, output.Name));
            }
            else
            {
                journal.Record(output.Name, new FileDigest(output.Bytes, output.Sha256));
            }
        }
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
                return (StageState.Stale, Difference(IdentityOf(manifest.Stage, manifest.Config, manifest.Inputs)));
            }
            var faults = manifest.Verify(Path, rehash: false).ToList();
            return faults.Count == 0 ? (StageState.UpToDate, "up to date") : (StageState.Damaged, faults[0].ToString());
        }
        string work = System.IO.Path.Combine(Path, WorkName);
        if (!File.Exists(work))
        {
            return damage.Length > 0 ? (StageState.Stale, damage) : (StageState.Absent, "not run yet");
        }
        var identity = ReadWork()?["identity"];
        return JsonDifference.First(identity, Identity) is null
            ? (StageState.Partial, "begun and not finished")
            : (StageState.Stale, Difference(identity));
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
        JsonDifference.First(before, Identity) is { } difference
            ? $"{difference.Path} was {difference.Before}, now {difference.After}"
            : "made by another version";

    private static JsonObject IdentityOf(string stage, JsonObject config, IEnumerable<ManifestInput> inputs) =>
        new()
        {
            ["stage"] = stage,
            ["config"] = config.DeepClone(),
            ["inputs"] = new JsonObject(inputs.Select(i => KeyValuePair.Create(i.Name, (JsonNode?)i.Fingerprint))),
        };

    private JsonObject? ReadWork()
    {
        try
        {
            return SealedJson.TryRead(System.IO.Path.Combine(Path, WorkName));
        }
        catch (CorruptArtifactException)
        {
            return null; // a damaged note of unfinished work: the work is begun anew
        }
    }
}
