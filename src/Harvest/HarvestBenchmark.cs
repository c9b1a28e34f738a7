using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Harvest;

/// <summary>
/// The whole stage, from text to sealed shards, loading the model included. Bound: the forward passes alone, over the same
/// contexts, already packed, with a loaded model and no hook copied.
/// </summary>
public static class HarvestBenchmark
{
    /// <param name="run">A pipeline whose harvest folder may be deleted and made again.</param>
    /// <param name="repeats">Measured harvests.</param>
    public static JsonObject Run(RunInputs run, int repeats)
    {
        ArgumentNullException.ThrowIfNull(run);
        using var none = no_grad();
        var config = run.Config.Harvest;
        var contexts = run.Batches(heldOut: false, config.Tokens.Value, config.Batch).ToList();
        long tokens = contexts.Sum(batch => batch.Sum(context => (long)context.Tokens.Length));
        double load = Stopclock.Time(() => run.Model.Load(run.Device).Dispose());
        using var model = run.Model.Load(run.Device);
        int last = run.Hooks.Max(hook => hook.Layer);
        var (harvest, forward) = Stopclock.MedianMilliseconds(
            repeats,
            () =>
            {
                if (Directory.Exists(run.HarvestFolder))
                {
                    Directory.Delete(run.HarvestFolder, recursive: true);
                }
                HarvestStage.Run(run, HarvestStage.Folder(run), new NoProgress(), CancellationToken.None);
            },
            () =>
            {
                foreach (var batch in contexts)
                {
                    using var scope = NewDisposeScope();
                    var hooks = new ForwardHooks().Read(new HookPoint(last, HookSite.ResidPost), _ => { });
                    model.RunHooks(ContextTensor.Of(batch, run.Device), hooks);
                }
            }
        );
        return Stopclock.Report(
            new JsonObject
            {
                ["model"] = run.Config.Model,
                ["hooks"] = run.Hooks.Count,
                ["tokens"] = tokens,
                ["batch"] = config.Batch,
                ["context"] = config.Context,
                ["repeats"] = repeats,
            },
            harvest,
            forward,
            new JsonObject { ["load_ms"] = load, ["tokens_per_s"] = tokens / harvest * 1000 }
        );
    }
}
