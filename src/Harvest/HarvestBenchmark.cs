using System.Text.Json.Nodes;
using Pipeline.Shared;
using Pipeline.Shared.Benchmarks;
using Pipeline.Shared.Models;
using Pipeline.Shared.Tokens;
using static TorchSharp.torch;

namespace Pipeline.Harvest;

/// <summary>
/// The whole stage, from text to sealed shards, loading the model included. Bound: the forward passes alone, over the same
/// contexts, already packed, with a loaded model and no hook copied. With several hooks also a harvest of the last of them
/// alone, in turn with the others.
/// </summary>
public static class HarvestBenchmark
{
    /// <param name="run">A pipeline whose harvest folder may be deleted and made again.</param>
    /// <param name="repeats">Measured harvests.</param>
    /// <returns>
    /// median_ms, bound_ms, ratio, load_ms, tokens_per_s; with several hooks one_hook_ms, and per_further_hook, what each beyond
    /// the first adds to a harvest of one, as a part of it: the median of what turns say, in each of which both are measured.
    /// </returns>
    public static JsonObject Run(RunInputs run, int repeats)
    {
        ArgumentNullException.ThrowIfNull(run);
        using var none = no_grad();
        var config = run.Config.Harvest;
        var contexts = run.Batches(heldOut: false, config.Tokens.Value, config.Batch).ToList();
        long tokens = contexts.Sum(batch => batch.Sum(context => (long)context.Tokens.Length));
        double load = Stopclock.Time(() => run.Model.Load(run.Device).Dispose());
        using var model = run.Model.Load(run.Device);
        var last = run.Hooks.OrderBy(hook => (hook.Layer, hook.Site)).Last();
        var figures = new JsonObject { ["load_ms"] = load };
        List<RunInputs> runs = [run];
        if (run.Hooks.Count > 1)
        {
            var one = run.Config with { Harvest = config with { Hooks = [last.ToString()] } };
            runs.Add(RunInputs.Open(one, "alone", Path.Combine(run.Folder, "alone"), run.Device));
        }
        var turns = Stopclock.InTurn(
            repeats,
            [Forward, .. runs.Select(each => (Action)(() => Harvest(each)))],
            before: () => runs.ForEach(RemoveHarvest)
        );
        double harvest = turns.Median(1);
        if (runs.Count > 1)
        {
            figures["one_hook_ms"] = turns.Median(2);
            figures["per_further_hook"] = (turns.Median(turn => turn[1] / turn[2]) - 1) / (run.Hooks.Count - 1);
        }
        figures["tokens_per_s"] = tokens / harvest * 1000;
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
            turns.Median(0),
            figures
        );

        void Forward()
        {
            foreach (var batch in contexts)
            {
                using var scope = NewDisposeScope();
                model.RunHooks(ContextTensor.Of(batch, run.Device), new ForwardHooks().ReadInPassing(last, _ => { }));
            }
        }
    }

    private static void Harvest(RunInputs run) =>
        HarvestStage.Run(run, HarvestStage.Folder(run), new NoProgress(), CancellationToken.None);

    private static void RemoveHarvest(RunInputs run)
    {
        if (Directory.Exists(run.HarvestFolder))
        {
            Directory.Delete(run.HarvestFolder, recursive: true);
        }
    }
}
