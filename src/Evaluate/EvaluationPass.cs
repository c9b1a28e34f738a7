using System.Globalization;
using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;

namespace Pipeline.Evaluate;

/// <summary>
/// SAEs that one pass over the text evaluates. Those that an interrupted pass had in hand go on from its checkpoint by
/// themselves; what has come to the pipeline since, or was changed, cannot join them midway and takes a pass of its own.
/// </summary>
/// <param name="Folders">Theirs. The last is sealed last and holds the pass's checkpoints.</param>
/// <param name="From">Where it goes on from; null at the start of the text.</param>
/// <param name="Note">What was found and what is done, where that is more than to begin or to go on; null otherwise.</param>
internal sealed record EvaluationPass(IReadOnlyList<StageFolder> Folders, Checkpoint? From, string? Note)
{
    private const string SaesWord = "saes";

    /// <summary>What a checkpoint says of whose it is.</summary>
    public static JsonObject Words(IEnumerable<StageFolder> folders) =>
        new() { [SaesWord] = new JsonArray([.. folders.Select(folder => (JsonNode)folder.Fingerprint)]) };

    /// <summary>In the order in which they are to be made.</summary>
    /// <param name="pending">Not begun yet: of one that was changed since, what lies there is deleted when it begins.</param>
    public static IReadOnlyList<EvaluationPass> Of(IReadOnlyList<StageFolder> pending)
    {
        var passes = new List<EvaluationPass>();
        var left = pending.ToList();
        // A checkpoint in the folder of an SAE that was changed may be one that its own pass went on from before.
        foreach (var holder in pending.OrderBy(folder => folder.State != StageState.Partial))
        {
            if (CheckpointIn(holder) is not { } checkpoint)
            {
                continue;
            }
            var saes = checkpoint.Words[SaesWord]?.AsArray().Select(sae => sae!.GetValue<string>()).ToHashSet() ?? [];
            var known = left.FindAll(folder => saes.Contains(folder.Fingerprint));
            if (known.Count == 0)
            {
                continue;
            }
            left.RemoveAll(known.Contains);
            passes.Add(
                new EvaluationPass(
                    [.. known.Where(folder => folder != holder), .. known.Where(folder => folder == holder)],
                    checkpoint,
                    known.Count == pending.Count ? null : NoteOf(checkpoint, known)
                )
            );
        }
        if (left.Count > 0)
        {
            var begun = left.FindAll(folder => folder.State == StageState.Partial);
            passes.Add(new EvaluationPass(left, null, begun.Count == 0 ? null : NoteOf(begun)));
        }
        return passes;
    }

    private static Checkpoint? CheckpointIn(StageFolder folder)
    {
        try
        {
            return folder.Checkpoints.Open();
        }
        // A kill may have come while the folder of a changed SAE was being deleted.
        catch (CorruptArtifactException) when (folder.State != StageState.Partial)
        {
            return null;
        }
    }

    private static string NoteOf(Checkpoint checkpoint, IReadOnlyList<StageFolder> known) =>
        string.Create(
            CultureInfo.InvariantCulture,
            $"evaluate: {Names(known)}: the checkpoint at {checkpoint.Step:N0} tokens knows these alone; they go on from there, the other SAEs take a pass of their own"
        );

    private static string NoteOf(IReadOnlyList<StageFolder> begun) =>
        $"evaluate: {Names(begun)}: begun before, but no checkpoint knows them; they are evaluated from the start";

    /// <summary>hook/SAE of each.</summary>
    private static string Names(IEnumerable<StageFolder> folders) =>
        string.Join(
            ", ",
            folders.Select(folder =>
                $"{Path.GetFileName(Path.GetDirectoryName(folder.Path))}/{Path.GetFileName(folder.Path)}"
            )
        );
}
