using Pipeline.Evaluate;
using Pipeline.Harvest;
using Pipeline.Shared;
using Pipeline.Train;

namespace Pipeline.Executors;

/// <summary>Everything in this process, one after the other; the SAEs of a hook together.</summary>
internal sealed class LocalExecutor : IExecutor
{
    public void Harvest(StageGraph graph, IProgressSink progress, CancellationToken cancel) =>
        HarvestStage.Run(graph.Run, graph.Harvest, progress, cancel);

    public void Train(StageGraph graph, IReadOnlyList<SaeNode> stale, IProgressSink progress, CancellationToken cancel)
    {
        foreach (var hook in stale.GroupBy(sae => sae.Hook))
        {
            TrainStage.Run(graph.Run, hook.Key, [.. hook.Select(sae => (sae.Config, sae.Train))], progress, cancel);
        }
    }

    public void Evaluate(
        StageGraph graph,
        IReadOnlyList<SaeNode> stale,
        IProgressSink progress,
        CancellationToken cancel
    ) => EvaluateStage.Run(graph.Run, [.. stale.Select(sae => (sae.Hook, sae.Config, sae.Evaluate))], progress, cancel);
}
