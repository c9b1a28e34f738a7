using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Artifacts;
using Pipeline.Shared.Autoencoders;
using Pipeline.Shared.Autoencoders.Formats;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Evaluate;

/// <summary>
/// The whole stage with untrained TopK SAEs, loading the model included. Bound: the forwards it needs and their scores
/// alone: one clean forward, from each hook on one splice an SAE, and of several hooks one more of all together. Baselines are
/// left out: there is no harvest to fit them to.
/// </summary>
public static class EvaluateBenchmark
{
    /// <param name="run">A pipeline whose train and evaluate folders may be deleted and made again.</param>
    /// <param name="repeats">Measured evaluations.</param>
    public static JsonObject Run(RunInputs run, int repeats)
    {
        ArgumentNullException.ThrowIfNull(run);
        using var none = no_grad();
        foreach (var (hook, sae) in run.Saes)
        {
            SaveUntrained(run, run.SaeFolder(hook, sae), sae.FeaturesFor(run.Model.Config.Width), sae.K!.Value);
        }
        var contexts = run.Batches(heldOut: true, run.Config.Evaluate.Tokens.Value, run.Config.Evaluate.Batch).ToList();
        long tokens = contexts.Sum(batch => batch.Sum(context => (long)context.Tokens.Length));
        using var model = run.Model.Load(run.Device);
        int splices = run.Config.Train.Saes.Count;
        var (evaluate, forwards) = Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                var folders = run.Saes.Select(p => (p.Hook, p.Sae, Fresh(run, p.Hook, p.Sae))).ToList();
                EvaluateStage.Run(run, folders, new NoProgress(), CancellationToken.None);
            },
            () =>
                contexts.ForEach(batch => ForwardsAlone(model, ContextTensor.Of(batch, run.Device), run.Hooks, splices))
        );
        return Stopclock.Report(
            new JsonObject
            {
                ["model"] = run.Config.Model,
                ["hooks"] = run.Hooks.Count,
                ["saes"] = run.Saes.Count,
                ["tokens"] = tokens,
                ["repeats"] = repeats,
            },
            evaluate,
            forwards,
            new JsonObject { ["tokens_per_s"] = tokens / evaluate * 1000 }
        );
    }

    private static void ForwardsAlone(Transformer model, Tensor tokensBT, IReadOnlyList<HookPoint> hooks, int splices)
    {
        using var scope = NewDisposeScope();
        var clean = CleanBatch.Run(model, tokensBT, new TokenPlace[tokensBT.numel()], hooks);
        var score = new SpliceScore();
        var from = hooks.Count > 1 ? hooks.Append(hooks[0]) : hooks;
        var untouched = from.SelectMany(hook =>
            Enumerable.Repeat(new Splice(score, hook, clean.AtHook[hook]), splices)
        );
        clean.Score(model, [.. untouched]);
    }

    private static StageFolder Fresh(RunInputs run, HookPoint hook, Shared.Configuration.SaeConfig sae)
    {
        string path = run.EvaluationFolder(hook, sae);
        if (Directory.Exists(path))
        {
            Directory.Delete(path, recursive: true);
        }
        return EvaluateStage.Folder(run, hook, sae, (_, _) => "untrained");
    }

    private static void SaveUntrained(RunInputs run, string folder, int features, int k)
    {
        using var scope = NewDisposeScope();
        int width = run.Model.Config.Width;
        manual_seed(1);
        var W_dec = nn.functional.normalize(randn(features, width), dim: 1);
        var sae = new TopKAutoencoder(W_dec, zeros(features), W_dec, zeros(width), k);
        var outputs = new SaeLensFormat().Save(folder, new SaeFile(sae, new SaeOrigin(), new SaeTraining("topk", k)));
        Manifest.Write(folder, Manifest.Create("train", [], [], outputs));
    }
}
